-- Every statement of the checkpointer, by name. `{schema}` is the quoted schema. Parameters are listed where the order
-- is not obvious. All of these are one round trip; those that write are single statements, hence atomic by themselves.

-- name: claim
-- Take the thread for a run: raise the fencing token, remember the graph. No row: the thread belongs to another graph.
-- $1 thread  $2 graph name or null
INSERT INTO {schema}.thread AS t (thread_id, graph) VALUES ($1, $2)
ON CONFLICT (thread_id) DO UPDATE
    SET token = DEFAULT, graph = COALESCE(t.graph, $2), status = 'unfinished', error = NULL, updated_at = now()
    WHERE $2::text IS NULL OR t.graph IS NULL OR t.graph = $2
RETURNING token, head

-- name: own_root
-- Commit right of a run on the root namespace: still the owner, and nobody moved the head. Takes the row lock, so two
-- commits of one thread queue here, and the second sees the first one's head.
-- $21 token  $22 head the run knows
UPDATE {schema}.thread SET head = $3, updated_at = now()
WHERE thread_id = $1 AND token = $21 AND head IS NOT DISTINCT FROM $22 RETURNING thread_id

-- name: own_nested
-- Commit right of a run on a subgraph's namespace: still the owner of the thread.
-- $21 token
SELECT thread_id FROM {schema}.thread WHERE thread_id = $1 AND token = $21 FOR SHARE

-- name: own_outside
-- A put that no run makes (update_state, a fork, a script): fences any run on the thread. A `loop` checkpoint with a
-- parent must continue the head; update, fork and input may start from anywhere, as in any saver.
-- $21 must continue the head
INSERT INTO {schema}.thread AS t (thread_id, head)
VALUES ($1, CASE WHEN $2 = '' THEN $3 END)
ON CONFLICT (thread_id) DO UPDATE
    SET token = DEFAULT, head = CASE WHEN $2 = '' THEN $3 ELSE t.head END, updated_at = now()
    WHERE NOT $21::boolean OR $2 <> '' OR t.head IS NULL OR t.head = $4
RETURNING thread_id

-- name: put
-- A checkpoint, its new channel values and the writes of its tasks that are not stored yet; nothing at all without the
-- commit right `own`, which one of the three statements above is put in for.
-- $1 thread $2 ns $3 id $4 parent $5 kind $6 payload $7 channels $8 versions $9 metadata $10 stats
-- $11-$14 new channel values (channel, version, kind, value)  $15-$20 writes (task, idx, path, channel, kind, value)
WITH own AS ({own}),
vals AS (
    INSERT INTO {schema}.channel_value (thread_id, ns, channel, version, kind, value)
    SELECT $1, $2, v.* FROM own, unnest($11::text[], $12::text[], $13::text[], $14::bytea[]) AS v
    ON CONFLICT DO NOTHING
), writes AS (
    INSERT INTO {schema}.task_write (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value)
    SELECT $1, $2, $4, w.*
    FROM own, unnest($15::text[], $16::integer[], $17::text[], $18::text[], $19::text[], $20::bytea[]) AS w
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE
        SET task_path = EXCLUDED.task_path, channel = EXCLUDED.channel, kind = EXCLUDED.kind, value = EXCLUDED.value
)
INSERT INTO {schema}.checkpoint
    (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10::text::jsonb FROM own
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET kind = EXCLUDED.kind, payload = EXCLUDED.payload, channels = EXCLUDED.channels,
        versions = EXCLUDED.versions, metadata = EXCLUDED.metadata
RETURNING 1

-- name: exists
SELECT EXISTS (SELECT 1 FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3)

-- name: put_writes
-- The results of tasks, each with its effect. Replaces whatever another worker left for the same tasks. Nothing without
-- the commit right: $16 is the token of the run, or null for a caller outside any run.
-- $1 thread $2 ns $3 checkpoint $4-$9 writes (task, idx, path, channel, kind, value)
-- $10 tasks whose older output goes  $11 how many output rows each of them has now
-- $12-$14 effects (task, kind, effect)  $15 tasks whose LLM memo goes
WITH own AS (SELECT 1 WHERE $16::bigint IS NULL OR EXISTS (
        SELECT 1 FROM {schema}.thread WHERE thread_id = $1 AND token = $16 FOR SHARE)),
gone AS (
    DELETE FROM {schema}.task_write w USING own, unnest($10::text[], $11::integer[]) AS k (task_id, kept)
    WHERE w.thread_id = $1 AND w.ns = $2 AND w.checkpoint_id = $3 AND w.task_id = k.task_id AND w.idx >= k.kept
), old_effects AS (
    DELETE FROM {schema}.task_effect e USING own
    WHERE e.thread_id = $1 AND e.ns = $2 AND e.checkpoint_id = $3 AND e.task_id = ANY ($10::text[])
      AND e.task_id <> ALL ($12::text[])
), memo AS (
    DELETE FROM {schema}.llm_call m USING own
    WHERE m.thread_id = $1 AND m.ns = $2 AND m.checkpoint_id = $3 AND m.task_id = ANY ($15::text[])
), effects AS (
    INSERT INTO {schema}.task_effect (thread_id, ns, checkpoint_id, task_id, kind, effect)
    SELECT $1, $2, $3, e.* FROM own, unnest($12::text[], $13::text[], $14::bytea[]) AS e
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id) DO UPDATE SET kind = EXCLUDED.kind, effect = EXCLUDED.effect
), writes AS (
    INSERT INTO {schema}.task_write (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value)
    SELECT $1, $2, $3, w.*
    FROM own, unnest($4::text[], $5::integer[], $6::text[], $7::text[], $8::text[], $9::bytea[]) AS w
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE
        SET task_path = EXCLUDED.task_path, channel = EXCLUDED.channel, kind = EXCLUDED.kind, value = EXCLUDED.value
)
SELECT count(*) FROM own

-- name: discard
-- Take back the results of tasks (their answers to interrupts included), and note what the attempt has cost.
-- $1 thread $2 ns $3 checkpoint $4 token or null $5 tasks  $6 attempts $7 repairs $8 drifts $9 llm_reused $10 ms
-- $11 tasks that had asked a human: with any, the answers on their way go too (the null task's RESUME, index -4, which
-- is kept with the root's checkpoint also when the question came from a subgraph)
WITH own AS (SELECT 1 WHERE $4::bigint IS NULL OR EXISTS (
        SELECT 1 FROM {schema}.thread WHERE thread_id = $1 AND token = $4 FOR SHARE)),
writes AS (
    DELETE FROM {schema}.task_write w USING own
    WHERE w.thread_id = $1
      AND (w.ns = $2 AND w.checkpoint_id = $3 AND w.task_id = ANY ($5::text[])
           OR cardinality($11::text[]) > 0 AND w.idx = -4 AND w.task_id = '00000000-0000-0000-0000-000000000000')
), effects AS (
    DELETE FROM {schema}.task_effect e USING own
    WHERE e.thread_id = $1 AND e.ns = $2 AND e.checkpoint_id = $3 AND e.task_id = ANY ($5::text[])
)
INSERT INTO {schema}.step_attempt AS a
    (thread_id, ns, checkpoint_id, attempts, repairs, drifts, llm_reused, ms, asked_again)
SELECT $1, $2, $3, $6, $7, $8, $9, $10, $11 FROM own
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET attempts = EXCLUDED.attempts, repairs = EXCLUDED.repairs, drifts = EXCLUDED.drifts,
        llm_reused = EXCLUDED.llm_reused, ms = EXCLUDED.ms, asked_again = a.asked_again || EXCLUDED.asked_again
RETURNING 1

-- name: nested_domain_writes
-- How many domain writes the super-steps of the subgraphs that a task ran have committed.
-- $1 thread  $2 LIKE pattern of namespaces with the task's id  $3, $4 LIKE patterns of those that are kept from call to
-- call  $5 namespace and $6 checkpoint that the task's super-step started from: of the kept ones, only what came after
SELECT COALESCE(sum((stats ->> 'writes')::integer), 0) FROM {schema}.checkpoint c
WHERE thread_id = $1
  AND (ns LIKE $2 OR (ns LIKE $3 OR ns LIKE $4) AND metadata -> 'parents' ->> $5::text = $6::text)

-- name: forget_nested
-- Parameters as above. Values that no checkpoint names any more are left for pruning: a kept namespace shares them.
WITH gone AS (
    DELETE FROM {schema}.checkpoint
    WHERE thread_id = $1
      AND (ns LIKE $2 OR (ns LIKE $3 OR ns LIKE $4) AND metadata -> 'parents' ->> $5::text = $6::text)
    RETURNING ns, checkpoint_id
), b AS (
    DELETE FROM {schema}.task_write w USING gone g
    WHERE w.thread_id = $1 AND w.ns = g.ns AND w.checkpoint_id = g.checkpoint_id
)
DELETE FROM {schema}.task_effect e USING gone g
WHERE e.thread_id = $1 AND e.ns = g.ns AND e.checkpoint_id = g.checkpoint_id

-- name: memo_get
-- The answer, if there is one, and whether the run still owns the thread (token $8; null: a caller outside any run). One
-- that does not must not pay for answers either.
SELECT ($8::bigint IS NULL OR t.token = $8) AS owned, m.kind, m.answer
FROM {schema}.thread t LEFT JOIN {schema}.llm_call m
  ON m.thread_id = t.thread_id AND m.ns = $2 AND m.checkpoint_id = $3 AND m.task_id = $4 AND m.attempt = $5
 AND m.request = $6 AND m.nth = $7
WHERE t.thread_id = $1

-- name: memo_put
-- Nothing without the commit right (token $13): a late worker's answer must not stand where the owner looks for its own.
WITH own AS (
    SELECT thread_id FROM {schema}.thread WHERE thread_id = $1 AND ($13::bigint IS NULL OR token = $13) FOR SHARE
), put AS (
    INSERT INTO {schema}.llm_call (thread_id, ns, checkpoint_id, task_id, attempt, request, nth,
                                   model, input_tokens, output_tokens, kind, answer)
    SELECT thread_id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM own
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM own

-- name: tuple_columns
-- What a checkpoint tuple is made of; `c` is the checkpoint.
c.ns, c.checkpoint_id, c.parent_id, c.kind, c.payload, c.metadata::text AS metadata,
v.names AS value_names, v.kinds AS value_kinds, v.vals AS value_values,
w.tasks AS write_tasks, w.channels AS write_channels, w.kinds AS write_kinds, w.vals AS write_values,
EXISTS (SELECT 1 FROM {schema}.step_attempt a WHERE a.thread_id = c.thread_id AND a.ns = c.ns
        AND a.checkpoint_id = c.checkpoint_id) AS tried_before

-- name: tuple_joins
LEFT JOIN LATERAL (
    SELECT array_agg(x.channel) AS names, array_agg(x.kind) AS kinds, array_agg(x.value) AS vals
    FROM unnest(c.channels, c.versions) AS ref (channel, version)
    JOIN {schema}.channel_value x
      ON x.thread_id = c.thread_id AND x.ns = c.ns AND x.channel = ref.channel AND x.version = ref.version
) v ON cardinality(c.channels) > 0
LEFT JOIN LATERAL (
    SELECT array_agg(y.task_id) AS tasks, array_agg(y.channel) AS channels,
           array_agg(y.kind) AS kinds, array_agg(y.value) AS vals
    FROM (SELECT task_id, channel, kind, value FROM {schema}.task_write
          WHERE thread_id = c.thread_id AND ns = c.ns AND checkpoint_id = c.checkpoint_id
          ORDER BY task_path, task_id, idx) y
) w ON true

-- name: get_latest
-- The head of the root namespace, whatever the clocks of those who made the ids; in the others the greatest id.
-- $1 thread $2 ns
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = COALESCE(
          (SELECT head FROM {schema}.thread WHERE thread_id = $1 AND $2 = ''),
          (SELECT max(checkpoint_id) FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2))) c
{tuple_joins}

-- name: get_one
-- $1 thread $2 ns $3 id
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3) c
{tuple_joins}

-- name: hypotheses
-- What the saved results of a super-step rest on, and what its earlier attempts cost.
-- $1 thread $2 ns $3 checkpoint
SELECT e.task_id, e.kind, e.effect, NULL::integer AS attempts, NULL::integer AS repairs, NULL::integer AS drifts,
       NULL::integer AS llm_reused, NULL::double precision AS ms, NULL::text[] AS asked_again
FROM {schema}.task_effect e WHERE e.thread_id = $1 AND e.ns = $2 AND e.checkpoint_id = $3
UNION ALL
SELECT NULL, NULL, NULL, a.attempts, a.repairs, a.drifts, a.llm_reused, a.ms, a.asked_again
FROM {schema}.step_attempt a WHERE a.thread_id = $1 AND a.ns = $2 AND a.checkpoint_id = $3

-- name: llm_paid
-- Paid calls of one super-step and their tokens: rows survive crashes, so this is the count across all attempts.
SELECT count(*)::integer AS paid, COALESCE(sum(input_tokens), 0)::integer AS input_tokens,
       COALESCE(sum(output_tokens), 0)::integer AS output_tokens
FROM {schema}.llm_call WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3

-- name: list
-- $1 thread or null $2 ns or null $3 id or null $4 before or null $5 metadata filter $6 limit or null
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint
      WHERE ($1::text IS NULL OR thread_id = $1) AND ($2::text IS NULL OR ns = $2)
        AND ($3::text IS NULL OR checkpoint_id = $3) AND ($4::text IS NULL OR checkpoint_id < $4)
        AND metadata @> $5::text::jsonb
      ORDER BY checkpoint_id DESC LIMIT $6) c
{tuple_joins}
ORDER BY c.checkpoint_id DESC

-- name: delete_thread
WITH a AS (DELETE FROM {schema}.checkpoint WHERE thread_id = ANY ($1::text[])),
     b AS (DELETE FROM {schema}.channel_value WHERE thread_id = ANY ($1::text[])),
     c AS (DELETE FROM {schema}.task_write WHERE thread_id = ANY ($1::text[])),
     d AS (DELETE FROM {schema}.task_effect WHERE thread_id = ANY ($1::text[])),
     e AS (DELETE FROM {schema}.llm_call WHERE thread_id = ANY ($1::text[])),
     f AS (DELETE FROM {schema}.step_attempt WHERE thread_id = ANY ($1::text[]))
DELETE FROM {schema}.thread WHERE thread_id = ANY ($1::text[])

-- name: checkpoints_of_runs
SELECT DISTINCT thread_id, ns, checkpoint_id FROM {schema}.checkpoint WHERE metadata ->> 'run_id' = ANY ($1::text[])

-- name: lock_thread
SELECT 1 FROM {schema}.thread WHERE thread_id = $1 FOR UPDATE

-- name: delete_checkpoints
-- $1 thread $2 namespaces $3 ids, pairwise
WITH gone AS (SELECT * FROM unnest($2::text[], $3::text[]) AS g (ns, checkpoint_id)),
     a AS (DELETE FROM {schema}.task_write t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     b AS (DELETE FROM {schema}.task_effect t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     c AS (DELETE FROM {schema}.llm_call t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     d AS (DELETE FROM {schema}.step_attempt t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id)
DELETE FROM {schema}.checkpoint t USING gone g
WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id

-- name: sweep
-- After checkpoints went: values no checkpoint names, then the head, then the thread itself if it has nothing left.
-- $1 thread
DELETE FROM {schema}.channel_value x
WHERE x.thread_id = $1 AND NOT EXISTS (
    SELECT 1 FROM {schema}.checkpoint c, unnest(c.channels, c.versions) AS ref (channel, version)
    WHERE c.thread_id = $1 AND c.ns = x.ns AND ref.channel = x.channel AND ref.version = x.version)

-- name: reset_head
-- Whoever deletes checkpoints fences the runs that might continue from them.
UPDATE {schema}.thread t SET token = DEFAULT, updated_at = now(), head = (
    SELECT max(checkpoint_id) FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = '')
WHERE t.thread_id = $1

-- name: chain
-- The checkpoints of a thread with what pruning needs to know, newest first.
SELECT ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata::text AS metadata
FROM {schema}.checkpoint WHERE thread_id = $1 ORDER BY checkpoint_id DESC

-- name: orphan_parents
-- A checkpoint whose parent was pruned becomes a root.
UPDATE {schema}.checkpoint c SET parent_id = NULL
WHERE c.thread_id = $1 AND c.parent_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM {schema}.checkpoint p
    WHERE p.thread_id = $1 AND p.ns = c.ns AND p.checkpoint_id = c.parent_id)

-- name: copy_thread
-- $1 source $2 target
WITH a AS (INSERT INTO {schema}.checkpoint
               (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats, created_at)
           SELECT $2, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats, created_at
           FROM {schema}.checkpoint WHERE thread_id = $1),
     b AS (INSERT INTO {schema}.channel_value SELECT $2, ns, channel, version, kind, value
           FROM {schema}.channel_value WHERE thread_id = $1),
     c AS (INSERT INTO {schema}.task_write SELECT $2, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value
           FROM {schema}.task_write WHERE thread_id = $1),
     d AS (INSERT INTO {schema}.task_effect SELECT $2, ns, checkpoint_id, task_id, kind, effect
           FROM {schema}.task_effect WHERE thread_id = $1),
     e AS (INSERT INTO {schema}.llm_call
               SELECT $2, ns, checkpoint_id, task_id, attempt, request, nth, model, input_tokens, output_tokens,
                      kind, answer, created_at
               FROM {schema}.llm_call WHERE thread_id = $1)
INSERT INTO {schema}.thread (thread_id, head, graph, status, error)
SELECT $2, head, graph, status, error FROM {schema}.thread WHERE thread_id = $1

-- name: ancestors
-- The parent chain of a checkpoint, newest first, without the checkpoint itself.
-- $1 thread $2 ns $3 id
WITH RECURSIVE up AS (
    SELECT 0 AS depth, parent_id FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3
    UNION ALL
    SELECT up.depth + 1, c.parent_id FROM up
    JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id = up.parent_id
)
SELECT c.checkpoint_id, c.kind, c.payload, c.channels, c.versions
FROM up JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id = up.parent_id
ORDER BY up.depth

-- name: delta_writes
-- $1 thread $2 ns $3 ids $4 channels
SELECT checkpoint_id, task_id, channel, kind, value FROM {schema}.task_write
WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = ANY ($3::text[]) AND channel = ANY ($4::text[])
ORDER BY checkpoint_id, task_path, task_id, idx

-- name: values_at
-- $1 thread $2 ns $3 channels $4 versions, pairwise
SELECT x.channel, x.kind, x.value FROM unnest($3::text[], $4::text[]) AS ref (channel, version)
JOIN {schema}.channel_value x
  ON x.thread_id = $1 AND x.ns = $2 AND x.channel = ref.channel AND x.version = ref.version

-- name: asked_again
SELECT COALESCE(array_agg(x), '{}') FROM {schema}.step_attempt a, unnest(a.asked_again) AS x WHERE a.thread_id = $1

-- name: finish
-- How a run ended, unless another has taken the thread since.
UPDATE {schema}.thread SET status = $3, error = $4, updated_at = now() WHERE thread_id = $1 AND token = $2

-- name: threads
SELECT t.thread_id, t.graph, t.status, t.error, t.created_at, t.updated_at,
       (SELECT count(*) FROM {schema}.checkpoint c WHERE c.thread_id = t.thread_id AND c.stats IS NOT NULL) AS steps
FROM {schema}.thread t
WHERE t.head IS NOT NULL AND ($1::text IS NULL OR t.thread_id = $1)
ORDER BY t.updated_at DESC LIMIT $2

-- name: steps
SELECT c.ns, c.checkpoint_id, c.metadata::text AS metadata, c.stats::text AS stats, c.created_at,
       (SELECT count(*) FROM {schema}.llm_call m
        WHERE m.thread_id = c.thread_id AND m.ns = c.ns AND m.checkpoint_id = c.parent_id)::integer AS llm_paid,
       (SELECT COALESCE(sum(m.input_tokens), 0) FROM {schema}.llm_call m
        WHERE m.thread_id = c.thread_id AND m.ns = c.ns AND m.checkpoint_id = c.parent_id)::integer AS input_tokens,
       (SELECT COALESCE(sum(m.output_tokens), 0) FROM {schema}.llm_call m
        WHERE m.thread_id = c.thread_id AND m.ns = c.ns AND m.checkpoint_id = c.parent_id)::integer AS output_tokens
FROM {schema}.checkpoint c
WHERE c.thread_id = $1 AND c.stats IS NOT NULL AND ($2::text IS NULL OR c.checkpoint_id > $2)
ORDER BY c.checkpoint_id

-- name: last_input
-- Where the thread's latest run began. Ids are time-ordered, so everything of that run has a greater or equal one.
SELECT max(checkpoint_id) FROM {schema}.checkpoint
WHERE thread_id = $1 AND ns = '' AND metadata ->> 'source' = 'input'

-- name: usage
SELECT count(*)::integer AS llm_paid, COALESCE(sum(input_tokens), 0)::integer AS input_tokens,
       COALESCE(sum(output_tokens), 0)::integer AS output_tokens,
       COALESCE(bool_and(model = 'offline'), true) AS offline
FROM {schema}.llm_call WHERE thread_id = $1 AND ($2::text IS NULL OR checkpoint_id >= $2)
