-- Runs that wait for a worker. `{schema}` is the quoted schema. Each is one round trip.

-- name: submit
-- Runs and ticks that are there already are left as they are. The ids of those that are new.
-- $1-$9 by run: id, thread, graph, tenant, key, priority, kind, request, seconds to wait
INSERT INTO {schema}.queued_run (run_id, thread_id, graph, tenant, key, priority, kind, request, due_at)
SELECT r.id, r.thread_id, r.graph, r.tenant, r.key, r.priority, r.kind, r.request, now() + r.delay * interval '1 second'
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::bytea[], $9::float8[])
     AS r (id, thread_id, graph, tenant, key, priority, kind, request, delay)
ON CONFLICT (run_id) DO NOTHING

-- name: look
-- Whether there may be something to claim: runs that are due, or that another worker has let go of; and how many seconds
-- it takes until one of those is let go of that other workers have now, unless they renew it.
-- $1 graphs $2 runs that this worker has
SELECT EXISTS (SELECT FROM {schema}.queued_run WHERE state = 'queued' AND due_at <= now() AND graph = ANY ($1::text[])) AS waits,
       COALESCE(r.lease_until < now(), false) AS is_left,
       extract(epoch FROM r.lease_until - clock_timestamp())::float8 AS until
FROM (SELECT min(lease_until) AS lease_until FROM {schema}.queued_run
      WHERE state = 'running' AND graph = ANY ($1::text[]) AND run_id <> ALL ($2::uuid[])) r

-- name: pass_gate
-- From here to its commit a transaction is alone in giving out runs. What was given out before.
UPDATE {schema}.run_gate SET served = served + $1 RETURNING served - $1

-- name: take_over
-- Runs of workers that no longer renew them. They keep the places that limits give them.
-- $1 graphs $2 runs that this worker has $3 how many $4 worker $5 lease in seconds
UPDATE {schema}.queued_run r
SET worker_id = $4, lease_until = clock_timestamp() + $5 * interval '1 second', delivery = r.delivery + 1,
    left_by = r.left_by || r.worker_id
FROM (SELECT run_id FROM {schema}.queued_run
      WHERE state = 'running' AND lease_until < now() AND graph = ANY ($1::text[]) AND run_id <> ALL ($2::uuid[])
      ORDER BY lease_until, nr LIMIT $3 FOR UPDATE SKIP LOCKED) AS left_alone
WHERE r.run_id = left_alone.run_id
RETURNING r.run_id, r.thread_id, r.graph, r.kind, r.request, r.delivery, r.failures, r.left_by, r.parent, r.answer,
    r.question, r.asked_as

-- name: claim
-- The next runs, each tenant its next one in turn: first those of the tenant that was served longest ago.
-- A run is left waiting while its graph or its key has all the places that there are, while its thread has a run, and
-- while its thread has one that comes before it. Within one statement, a run that is passed over for its key may still
-- have counted for its graph: then there is a place left, and the next statement gives it out.
-- $1 graphs $2 how many $3 worker $4 lease in seconds $5 what was given out before
WITH RECURSIVE running AS MATERIALIZED (
    SELECT graph, key FROM {schema}.queued_run WHERE state = 'running'
), graph_room AS MATERIALIZED (
    SELECT g.graph, l.most - (SELECT count(*) FROM running r WHERE r.graph = g.graph) AS room
    FROM unnest($1::text[]) AS g (graph) CROSS JOIN LATERAL (
        SELECT most FROM {schema}.run_limit WHERE scope = 'graph' AND name IN (g.graph, '*')
        ORDER BY name = '*' LIMIT 1) l
), full_key AS MATERIALIZED (
    SELECT r.key FROM running r WHERE r.key IS NOT NULL
    GROUP BY r.key HAVING count(*) >= (
        SELECT most FROM {schema}.run_limit WHERE scope = 'key' AND name IN (r.key, '*') ORDER BY name = '*' LIMIT 1)
), tenants AS (
    (SELECT tenant FROM {schema}.queued_run WHERE state = 'queued' ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT q.tenant FROM {schema}.queued_run q
            WHERE q.state = 'queued' AND q.tenant > t.tenant ORDER BY q.tenant LIMIT 1)
    FROM tenants t WHERE t.tenant IS NOT NULL
), found AS (
    SELECT c.run_id, c.graph, c.key, t.tenant, COALESCE(s.served, 0) AS served,
           row_number() OVER (PARTITION BY t.tenant ORDER BY c.priority DESC, c.nr) AS turn
    FROM tenants t LEFT JOIN {schema}.run_tenant s USING (tenant) CROSS JOIN LATERAL (
        SELECT q.run_id, q.graph, q.key, q.priority, q.nr FROM {schema}.queued_run q
        WHERE q.state = 'queued' AND q.tenant = t.tenant AND q.due_at <= now() AND q.graph = ANY ($1::text[])
          AND q.graph NOT IN (SELECT graph FROM graph_room WHERE room <= 0)
          AND (q.key IS NULL OR q.key NOT IN (SELECT key FROM full_key))
          AND NOT EXISTS (SELECT FROM {schema}.queued_run o WHERE o.state = 'running' AND o.thread_id = q.thread_id)
          AND NOT EXISTS (
              SELECT FROM {schema}.queued_run o
              WHERE o.state = 'queued' AND o.thread_id = q.thread_id AND o.nr <> q.nr
                AND CASE WHEN (o.delivery > 0) = (q.delivery > 0) THEN o.nr < q.nr AND (o.due_at <= now() OR o.delivery > 0)
                         ELSE o.delivery > 0 END)
        ORDER BY q.priority DESC, q.nr LIMIT $2) c
    WHERE t.tenant IS NOT NULL
), placed AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.graph ORDER BY turn, served, tenant) AS of_graph,
           row_number() OVER (PARTITION BY f.key ORDER BY turn, served, tenant) AS of_key
    FROM found f
), chosen AS MATERIALIZED (
    SELECT run_id, tenant, row_number() OVER (ORDER BY turn, served, tenant) AS place
    FROM placed p
    WHERE p.of_graph <= COALESCE((SELECT room FROM graph_room g WHERE g.graph = p.graph), $2)
      AND (p.key IS NULL OR p.of_key <= COALESCE(
              (SELECT most FROM {schema}.run_limit WHERE scope = 'key' AND name IN (p.key, '*') ORDER BY name = '*' LIMIT 1)
              - (SELECT count(*) FROM running r WHERE r.key = p.key), $2))
    ORDER BY turn, served, tenant LIMIT $2
), served AS (
    INSERT INTO {schema}.run_tenant AS t (tenant, served) SELECT tenant, $5 + max(place) FROM chosen GROUP BY tenant
    ON CONFLICT (tenant) DO UPDATE SET served = EXCLUDED.served
)
UPDATE {schema}.queued_run r
SET state = 'running', worker_id = $3, lease_until = clock_timestamp() + $4 * interval '1 second',
    delivery = r.delivery + 1, started_at = COALESCE(r.started_at, now())
FROM chosen c WHERE r.run_id = c.run_id
RETURNING r.run_id, r.thread_id, r.graph, r.kind, r.request, r.delivery, r.failures, r.left_by, r.parent, r.answer,
    r.question, r.asked_as, c.place

-- name: fence
-- Before a run goes on elsewhere: what workers that had it may still be at stores nothing more. $1 thread $2 those workers
UPDATE {schema}.thread SET token = DEFAULT, worker_id = NULL, running_since = NULL
WHERE thread_id = $1 AND worker_id = ANY ($2::uuid[])

-- name: has_begun
-- Whether the input of a run is in its thread, or was there: a child that has asked comes back when it was answered, and its
-- history may be deleted by then. $1 thread $2 run, as text
SELECT EXISTS (SELECT FROM {schema}.checkpoint
               WHERE metadata ->> 'run_id' = $2 AND metadata ->> 'run_id' IS NOT NULL AND thread_id = $1)
    OR EXISTS (SELECT FROM {schema}.child_run WHERE id = replace($2, '-', '') AND state <> 'open')

-- name: renew
-- Those of the runs that are this worker's still. They are locked in one order, as in `ended`: else the two might wait for
-- each other. $1 worker $2 runs $3 deliveries, pairwise $4 lease in seconds
UPDATE {schema}.queued_run r SET lease_until = clock_timestamp() + $4 * interval '1 second'
FROM (SELECT q.run_id FROM {schema}.queued_run q JOIN unnest($2::uuid[], $3::integer[]) AS mine (run_id, delivery)
          ON q.run_id = mine.run_id AND q.delivery = mine.delivery
      WHERE q.state = 'running' AND q.worker_id = $1 ORDER BY q.run_id FOR NO KEY UPDATE OF q) AS locked
WHERE r.run_id = locked.run_id
RETURNING r.run_id

-- name: ended
-- Those of the runs that were still what they were given out as. By run: $1 ids $2 deliveries $3 states $4 errors
UPDATE {schema}.queued_run r
SET state = locked.state, error = locked.error, ended_at = clock_timestamp(), worker_id = NULL, lease_until = NULL
FROM (SELECT q.run_id, mine.state, mine.error
      FROM {schema}.queued_run q
      JOIN unnest($1::uuid[], $2::integer[], $3::text[], $4::text[]) AS mine (run_id, delivery, state, error)
          ON q.run_id = mine.run_id AND q.delivery = mine.delivery
      WHERE q.state = 'running' ORDER BY q.run_id FOR NO KEY UPDATE OF q) AS locked
WHERE r.run_id = locked.run_id
RETURNING r.run_id

-- name: at_work
-- The run that a worker is at on a thread. $1 thread $2 worker
SELECT run_id, delivery FROM {schema}.queued_run WHERE thread_id = $1 AND worker_id = $2 AND state = 'running' FOR UPDATE

-- name: put_back
-- $1 run $2 delivery $3 seconds to wait $4 error $5 whether it has failed once more
UPDATE {schema}.queued_run
SET state = 'queued', due_at = now() + $3 * interval '1 second', error = $4, failures = failures + $5::boolean::integer,
    worker_id = NULL, lease_until = NULL
WHERE run_id = $1 AND delivery = $2 AND state = 'running' RETURNING 1

-- name: graphs
-- Graphs of runs that wait or are under way, how many, and whether a worker has them.
WITH RECURSIVE names AS (
    (SELECT graph FROM {schema}.queued_run WHERE state = 'queued' ORDER BY graph LIMIT 1)
    UNION ALL
    SELECT (SELECT q.graph FROM {schema}.queued_run q WHERE q.state = 'queued' AND q.graph > n.graph ORDER BY q.graph LIMIT 1)
    FROM names n WHERE n.graph IS NOT NULL
), every AS (
    SELECT graph FROM names WHERE graph IS NOT NULL
    UNION SELECT graph FROM {schema}.queued_run WHERE state = 'running'
)
SELECT e.graph, EXISTS (SELECT FROM {schema}.run_worker w WHERE e.graph = ANY (w.graphs) AND w.seen_until > now()) AS has_worker
FROM every e ORDER BY e.graph

-- name: runs
-- The latest first. $1 how many $2 state or null $3 thread or null $4 before this number, or null
SELECT r.run_id, r.nr, r.thread_id, r.graph, r.tenant, r.key, r.priority, r.state, r.delivery, r.failures, r.due_at, r.error,
       r.schedule, r.tick, r.parent, r.answer, r.created_at, r.started_at, r.ended_at,
       r.state <> 'queued' OR EXISTS (
           SELECT FROM {schema}.run_worker w WHERE r.graph = ANY (w.graphs) AND w.seen_until > now()) AS has_worker
FROM {schema}.queued_run r
WHERE ($2::text IS NULL OR r.state = $2) AND ($3::text IS NULL OR r.thread_id = $3) AND ($4::bigint IS NULL OR r.nr < $4)
ORDER BY r.nr DESC LIMIT $1

-- name: beat
-- $1 worker $2 host $3 pid $4 graphs $5 concurrency $6 lease in seconds
WITH gone AS (DELETE FROM {schema}.run_worker WHERE seen_until < now() - interval '1 day' AND worker_id <> $1)
INSERT INTO {schema}.run_worker (worker_id, host, pid, graphs, concurrency, seen_until)
VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second')
ON CONFLICT (worker_id) DO UPDATE
SET graphs = EXCLUDED.graphs, concurrency = EXCLUDED.concurrency, seen_until = EXCLUDED.seen_until

-- name: leave
DELETE FROM {schema}.run_worker WHERE worker_id = $1

-- name: limits
SELECT scope, name, most FROM {schema}.run_limit ORDER BY scope, name

-- name: set_limit
-- $1 scope $2 name $3 how many
INSERT INTO {schema}.run_limit (scope, name, most) VALUES ($1, $2, $3)
ON CONFLICT (scope, name) DO UPDATE SET most = EXCLUDED.most

-- name: drop_limit
DELETE FROM {schema}.run_limit WHERE scope = $1 AND name = $2 RETURNING 1

-- name: graph_of_effect
SELECT e.topic, t.graph FROM {schema}.effect e JOIN {schema}.thread t USING (thread_id) WHERE e.id = $1
