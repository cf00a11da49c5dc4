-- Children and questions. `{schema}` is the quoted schema. Each is one round trip.

-- name: at_place
-- Children of the same graph from the same node of a thread, in a statement with $1 parent $3 nodes $7 node.
e.parent_id = $1 AND e.graph = g.graph AND e.node = $7 AND e.nodes = $3

-- name: spawn
-- Children of one task and their runs, unless one was spawned from its place on another branch and there is no choice:
-- then nothing is put, and there are rows in which `state` is null. As for effects (`effects.put_out`), but for all of
-- them together: each graph has places of its own, and the children of this statement take the next ones in their order.
-- They are of the tenant that the parent's run is of, if a worker runs it.
-- $1 parent $2 ns $3 nodes $4 checkpoint $5 root $6 task $7 node $8 choice
-- $9-$15 by child: id, run, nth, graph, thread, kind, request
WITH RECURSIVE new AS (
    SELECT n.*, row_number() OVER (PARTITION BY n.graph ORDER BY n.nth) AS place
    FROM unnest($9::text[], $10::uuid[], $11::integer[], $12::text[], $13::text[], $14::text[], $15::bytea[])
         AS n (id, run_id, nth, graph, thread_id, kind, request)
), graphs AS (
    SELECT DISTINCT graph COLLATE "C" AS graph FROM new
), way AS (
    SELECT g.graph, c.checkpoint_id, c.parent_id, c.metadata ->> 'source' AS source, true AS counts
    FROM graphs g CROSS JOIN {schema}.checkpoint c
    WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = $5 AND EXISTS (
        SELECT FROM {schema}.child_run e WHERE {at_place})
    UNION ALL
    SELECT g.graph, c.checkpoint_id, c.parent_id, c.source, g.source NOT IN ('update', 'fork')
    FROM way g CROSS JOIN LATERAL (
        SELECT x.checkpoint_id, x.parent_id, x.metadata ->> 'source' AS source FROM {schema}.checkpoint x
        WHERE x.thread_id = $1 AND x.ns = '' AND x.checkpoint_id = g.parent_id LIMIT 1) c
    WHERE NOT (g.counts AND EXISTS (
        SELECT FROM {schema}.child_run e WHERE {at_place} AND e.root_id = g.checkpoint_id))
), before AS (
    SELECT g.graph, COALESCE(
        (SELECT max(e.ordinal) FROM {schema}.child_run e
         WHERE {at_place} AND e.root_id IN (SELECT w.checkpoint_id FROM way w WHERE w.counts AND w.graph = g.graph)),
        (SELECT max(e.ordinal) FROM {schema}.child_run e
         WHERE {at_place} AND e.root_id < (SELECT min(w.checkpoint_id) FROM way w WHERE w.graph = g.graph)), 0) AS ordinal
    FROM graphs g
), placed AS (
    SELECT n.*, g.ordinal + n.place AS ordinal, (
        SELECT e.id FROM {schema}.child_run e
        WHERE {at_place} AND e.ordinal = g.ordinal + n.place AND e.state IN ('open', 'asking', 'completed')
        ORDER BY e.seq LIMIT 1) AS sent
    FROM new n JOIN before g ON g.graph = n.graph
), refused AS (
    SELECT FROM placed WHERE sent IS NOT NULL AND $8::text IS NULL
), put AS (
    INSERT INTO {schema}.child_run
        (id, thread_id, graph, parent_id, ns, checkpoint_id, task_id, nth, root_id, nodes, node, ordinal, state, stands_for)
    SELECT id, thread_id, graph, $1, $2, $4, $6, nth, $5, $3, $7, ordinal,
           CASE WHEN sent IS NOT NULL AND $8 = 'keep' THEN 'kept' ELSE 'open' END, CASE WHEN $8 = 'keep' THEN sent END
    FROM placed WHERE NOT EXISTS (SELECT FROM refused)
    ORDER BY nth
    RETURNING id, state
), runs AS (
    INSERT INTO {schema}.queued_run (run_id, thread_id, graph, tenant, kind, request, parent)
    SELECT p.run_id, p.thread_id, p.graph,
           COALESCE((SELECT r.tenant FROM {schema}.queued_run r WHERE r.thread_id = $1 AND r.state = 'running'), ''),
           p.kind, p.request, $1
    FROM placed p JOIN put USING (id) WHERE put.state = 'open' ORDER BY p.nth
)
SELECT p.id, put.state, p.sent FROM placed p LEFT JOIN put USING (id) ORDER BY p.nth

-- name: child
-- The child that is meant by its thread: the latest that this one has spawned there, else the latest of any. What one that
-- is kept stands for is told in its place. $1 parent $2 thread
SELECT e.id, e.thread_id, e.graph, e.state, e.kind, e.outcome
FROM (SELECT COALESCE(c.stands_for, c.id) AS id FROM {schema}.child_run c WHERE c.thread_id = $2
      ORDER BY c.parent_id = $1 DESC, c.seq DESC LIMIT 1) meant
JOIN {schema}.child_run e ON e.id = meant.id

-- name: ask
-- Questions that tasks have stopped at; others of these tasks are closed. One that is asked again as it was keeps its
-- number, and its time.
-- $1 thread $2 root $3 ns $4 checkpoint $5-$12 by question: name, task, nth, child, seconds until it expires, when it does,
-- kind, otherwise
WITH closed AS (
    UPDATE {schema}.question SET closed = true
    WHERE thread_id = $1 AND ns = $3 AND checkpoint_id = $4 AND task_id = ANY ($6::text[]) AND name <> ALL ($5::text[])
      AND NOT closed
)
INSERT INTO {schema}.question AS q
    (thread_id, name, root_id, ns, checkpoint_id, task_id, nth, child_id, expires_at, kind, otherwise)
SELECT $1, n.name, $2, $3, $4, n.task_id, n.nth, n.child_id,
       COALESCE(n.at, now() + n.seconds * interval '1 second'), n.kind, n.otherwise
FROM unnest($5::text[], $6::text[], $7::integer[], $8::text[], $9::float8[], $10::timestamptz[], $11::text[], $12::bytea[])
     AS n (name, task_id, nth, child_id, seconds, at, kind, otherwise)
ON CONFLICT (thread_id, name) DO UPDATE
SET number = EXCLUDED.number, root_id = EXCLUDED.root_id, ns = EXCLUDED.ns, checkpoint_id = EXCLUDED.checkpoint_id,
    task_id = EXCLUDED.task_id, nth = EXCLUDED.nth, closed = false, child_id = EXCLUDED.child_id, expires_at = EXCLUDED.expires_at,
    expired = false, kind = EXCLUDED.kind, otherwise = EXCLUDED.otherwise, asked_at = EXCLUDED.asked_at
WHERE q.closed OR (q.root_id, q.ns, q.checkpoint_id, q.task_id, q.nth)
      IS DISTINCT FROM (EXCLUDED.root_id, EXCLUDED.ns, EXCLUDED.checkpoint_id, EXCLUDED.task_id, EXCLUDED.nth)

-- name: ended_of
-- Of these children those that have ended, or are not there any more. Behind lock_children. $1 ids
SELECT asked.id FROM unnest($1::text[]) AS asked (id) LEFT JOIN {schema}.child_run c ON c.id = asked.id
WHERE c.id IS NULL OR c.state IN ('completed', 'failed', 'deleted')

-- name: lock_children
-- Before it is looked who has ended: whoever records an end has the row. $1 ids
SELECT FROM {schema}.child_run WHERE id = ANY ($1::text[]) ORDER BY id FOR SHARE

-- name: open_question
-- Whether a question q of a thread t is open: the thread stands where it was asked, and the task has not gone on.
q.root_id = t.head AND NOT q.closed AND NOT EXISTS (
    SELECT FROM {schema}.task_write w
    WHERE w.thread_id = q.thread_id AND w.ns = q.ns AND w.checkpoint_id = q.checkpoint_id AND w.task_id = q.task_id
      AND w.idx >= 0)
AND (q.ns = '' OR NOT EXISTS (
    SELECT FROM {schema}.checkpoint c
    WHERE c.thread_id = q.thread_id AND c.ns = q.ns AND c.checkpoint_id > q.checkpoint_id))

-- name: wake
-- Have the threads run on that wait for these children. Tenant, key and priority are those of the run that they are of.
-- How many there are. $1 ids
WITH woken AS (
    INSERT INTO {schema}.queued_run (run_id, thread_id, graph, tenant, key, priority, kind, request, answer, question, asked_as)
    SELECT gen_random_uuid(), q.thread_id, t.graph, COALESCE(r.tenant, ''), r.key, COALESCE(r.priority, 0), '', '', 'child',
           q.number, q.name
    FROM {schema}.question q JOIN {schema}.thread t USING (thread_id) LEFT JOIN LATERAL (
        SELECT x.tenant, x.key, x.priority FROM {schema}.queued_run x WHERE x.thread_id = q.thread_id
        ORDER BY x.nr DESC LIMIT 1) r ON true
    WHERE q.child_id = ANY ($1::text[]) AND q.root_id = t.head AND NOT q.closed AND t.graph IS NOT NULL
    RETURNING 1
)
SELECT count(*) FROM woken

-- name: left_behind
-- Whether the question of a child c cannot be answered any more: its thread was entered with other input since.
EXISTS (SELECT FROM (
    SELECT i.metadata ->> 'run_id' AS run_id FROM {schema}.checkpoint i
    WHERE i.thread_id = c.thread_id AND i.ns = '' AND i.metadata ->> 'source' = 'input'
    ORDER BY i.checkpoint_id DESC LIMIT 1) latest WHERE latest.run_id IS DISTINCT FROM c.id::uuid::text)

-- name: ended
-- The children that end with a run: that of the run itself, and if the run carried an answer, the one of its thread that was
-- asking. Their identities. $1 run $2 thread $3 whether it carried an answer
SELECT c.id FROM {schema}.child_run c
WHERE c.state IN ('open', 'asking')
  AND (c.id = replace($1::uuid::text, '-', '')
       OR $3::boolean AND c.thread_id = $2 AND c.state = 'asking' AND NOT {left_behind})
ORDER BY c.id FOR UPDATE

-- name: taken_back
-- Children that had asked on a thread, of which nothing is there any more: their input was taken back. $1 thread
SELECT c.id FROM {schema}.child_run c
WHERE c.thread_id = $1 AND c.state = 'asking' AND NOT EXISTS (
    SELECT FROM {schema}.checkpoint k
    WHERE k.thread_id = $1 AND k.metadata ->> 'run_id' IS NOT NULL AND k.metadata ->> 'run_id' = c.id::uuid::text)
ORDER BY c.id FOR UPDATE

-- name: stand_again
-- Questions that a thread stands at once more, since the input that had left them behind was taken back. If their time was
-- over meanwhile, nobody has answered for that. The children among them. $1 thread
UPDATE {schema}.question q SET expired = false FROM {schema}.thread t
WHERE q.thread_id = $1 AND t.thread_id = $1 AND q.root_id = t.head AND NOT q.closed
RETURNING q.child_id

-- name: asks
-- The same when the run has stopped at a question. $1 run
UPDATE {schema}.child_run SET state = 'asking' WHERE id = replace($1::uuid::text, '-', '') AND state = 'open'

-- name: settle
-- What children have ended with. $1 state $2-$4 by child: id, kind, outcome
UPDATE {schema}.child_run c SET state = $1, kind = n.kind, outcome = n.outcome, ended_at = now()
FROM unnest($2::text[], $3::text[], $4::bytea[]) AS n (id, kind, outcome) WHERE c.id = n.id

-- name: has_due
-- Whether there is something to look after: see below.
SELECT EXISTS (SELECT FROM {schema}.question WHERE NOT expired AND expires_at <= now())
    OR EXISTS (SELECT FROM {schema}.child_run WHERE state = 'deleting')
    OR EXISTS (SELECT FROM {schema}.child_run c JOIN {schema}.thread t USING (thread_id)
               WHERE c.state = 'asking' AND (t.status IN ('completed', 'cancelled') OR t.status = 'failed' AND {left_behind}))

-- name: given_up
-- Children whose question nobody will answer. Their identities.
SELECT c.id FROM {schema}.child_run c JOIN {schema}.thread t USING (thread_id)
WHERE c.state = 'asking' AND (t.status = 'cancelled' OR t.status IN ('completed', 'failed') AND {left_behind})
ORDER BY c.id FOR UPDATE OF c

-- name: finished_aside
-- Children whose question was answered by somebody who is no worker, and whose thread has completed since: their run goes
-- back to the queue, and ends as one does that has nothing left to do. How many.
WITH back AS (
    UPDATE {schema}.queued_run r SET state = 'queued', due_at = now(), ended_at = NULL
    FROM {schema}.child_run c JOIN {schema}.thread t USING (thread_id)
    WHERE c.state = 'asking' AND t.status = 'completed' AND NOT {left_behind}
      AND r.run_id = c.id::uuid AND r.state = 'interrupted'
    RETURNING 1
)
SELECT count(*) FROM back

-- name: deleted
-- Children whose threads were deleted. Their identities.
UPDATE {schema}.child_run SET state = 'deleted', ended_at = now() WHERE state = 'deleting' RETURNING id

-- name: expire
-- Questions whose time is over, each once, whoever looks. `open`: those that are still to be answered.
UPDATE {schema}.question q SET expired = true
FROM (SELECT thread_id, name FROM {schema}.question WHERE NOT expired AND expires_at <= now()
      ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED) due
LEFT JOIN {schema}.thread t ON t.thread_id = due.thread_id
WHERE q.thread_id = due.thread_id AND q.name = due.name
RETURNING q.thread_id, q.name, q.number, q.kind, q.otherwise, t.graph, COALESCE({open_question}, false) AS open

-- name: answer
-- A run that carries the answer to a question. Tenant, key and priority as above.
-- $1 run $2 thread $3 graph $4 number $5 name $6 kind $7 request $8 why
INSERT INTO {schema}.queued_run (run_id, thread_id, graph, tenant, key, priority, kind, request, answer, question, asked_as)
SELECT $1, $2, $3, COALESCE(r.tenant, ''), r.key, COALESCE(r.priority, 0), $6, $7, $8, $4, $5
FROM (SELECT) one LEFT JOIN LATERAL (
    SELECT x.tenant, x.key, x.priority FROM {schema}.queued_run x WHERE x.thread_id = $2 ORDER BY x.nr DESC LIMIT 1) r ON true

-- name: questions
-- A thread, if it is there, with its open questions to people. $1 thread
SELECT t.graph, t.worker_id IS NOT NULL OR EXISTS (
           SELECT FROM {schema}.queued_run r WHERE r.thread_id = t.thread_id AND r.state = 'running') AS runs,
       q.name, q.number, q.expires_at <= now() AS is_late, q.child_id
FROM {schema}.thread t LEFT JOIN {schema}.question q ON q.thread_id = t.thread_id AND {open_question}
WHERE t.thread_id = $1 ORDER BY q.number

-- name: withdrawn
-- How often a question q was withdrawn, with its task or with one that this runs in, since the facts had moved.
(SELECT count(*) FROM {schema}.step_attempt a CROSS JOIN unnest(a.asked_again) AS x (task_id)
 WHERE a.thread_id = q.thread_id
   AND (a.ns = q.ns AND a.checkpoint_id = q.checkpoint_id AND x.task_id = q.task_id
        OR a.ns = '' AND a.checkpoint_id = q.root_id AND position(':' || x.task_id IN q.ns) > 0))

-- name: how_often_withdrawn
-- No row: its task has taken an answer to it, and asks once more. $1 thread $2 number
SELECT {withdrawn} FROM {schema}.question q WHERE q.thread_id = $1 AND q.number = $2

-- name: delivers
-- What has become of a question by the time at which an answer to it is delivered: whether it is open still, and whether
-- this very run has entered its thread with an answer. No row: the thread is gone. $1 thread $2 name $3 number $4 run
SELECT t.token, q.child_id, COALESCE(q.number = $3 AND {open_question}, false) AS open,
       COALESCE(q.taken_by = $4, false) AS is_ours, {withdrawn} AS withdrawn
FROM {schema}.thread t LEFT JOIN {schema}.question q ON q.thread_id = t.thread_id AND q.name = $2
WHERE t.thread_id = $1

-- name: entered_with
-- What a thread was last run with that a worker ran, and not what waits to be run. $1 thread
SELECT run_id, kind, request FROM {schema}.queued_run
WHERE thread_id = $1 AND question IS NULL AND delivery > 0 ORDER BY nr DESC LIMIT 1

-- name: lifted
-- A thread that waits for children waits on: its head is made of the one that they were asked for at. $1 thread $2 that
-- $3 the head
UPDATE {schema}.question SET root_id = $3
WHERE thread_id = $1 AND root_id = $2 AND child_id IS NOT NULL AND NOT closed

-- name: is_encrypted
SELECT EXISTS (SELECT FROM {schema}.encryption)
