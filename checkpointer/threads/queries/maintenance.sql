-- Deleting, copying, pruning. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.

-- name: awaited
-- Whether a thread that stays waits for a child that one of the threads $1 has spawned.
EXISTS (SELECT FROM {schema}.question q WHERE q.child_id = child_run.id AND NOT q.closed AND q.thread_id <> ALL ($1::text[]))

-- name: delete_thread
-- $1 threads
WITH a AS (DELETE FROM {schema}.checkpoint WHERE thread_id = ANY ($1::text[])),
     b AS (DELETE FROM {schema}.channel_value WHERE thread_id = ANY ($1::text[])),
     c AS (DELETE FROM {schema}.task_write WHERE thread_id = ANY ($1::text[])),
     d AS (DELETE FROM {schema}.task_effect WHERE thread_id = ANY ($1::text[])),
     e AS (DELETE FROM {schema}.llm_call WHERE thread_id = ANY ($1::text[])),
     f AS (DELETE FROM {schema}.step_attempt WHERE thread_id = ANY ($1::text[])),
     g AS (DELETE FROM {schema}.model_call WHERE thread_id = ANY ($1::text[])),
     h AS (DELETE FROM {schema}.provenance WHERE thread_id = ANY ($1::text[])),
     i AS (DELETE FROM {schema}.reconciliation WHERE thread_id = ANY ($1::text[])),
-- What is still to be delivered stays until it is settled.
     j AS (DELETE FROM {schema}.effect WHERE thread_id = ANY ($1::text[])
           AND state IN ('delivered', 'dropped', 'kept', 'undone')),
     k AS (DELETE FROM {schema}.queued_run WHERE thread_id = ANY ($1::text[])),
     l AS (DELETE FROM {schema}.question WHERE thread_id = ANY ($1::text[])),
-- Children of other threads: what they have ended with goes, and a parent that waits is told by whoever looks next.
     m AS (UPDATE {schema}.child_run
           SET state = CASE WHEN state IN ('open', 'asking') THEN 'deleting' WHEN state = 'kept' THEN 'kept' ELSE 'deleted' END,
               kind = NULL, outcome = NULL
           WHERE thread_id = ANY ($1::text[]) AND (parent_id <> ALL ($1::text[]) OR {awaited})),
     n AS (DELETE FROM {schema}.child_run WHERE parent_id = ANY ($1::text[]) AND NOT {awaited})
DELETE FROM {schema}.thread WHERE thread_id = ANY ($1::text[])

-- name: lock_threads
-- In the order of their ids, so that two who lock the same threads do not wait for each other.
SELECT count(*) FROM (
    SELECT 1 FROM {schema}.thread WHERE thread_id = ANY ($1::text[]) ORDER BY thread_id FOR UPDATE) AS locked

-- name: hold_threads
-- As lock_threads, also for threads that are not there: whoever begins one waits as well.
INSERT INTO {schema}.thread AS t (thread_id) SELECT x FROM unnest($1::text[]) AS x GROUP BY x ORDER BY x
ON CONFLICT (thread_id) DO UPDATE SET thread_id = EXCLUDED.thread_id

-- name: checkpoints_of_runs
SELECT DISTINCT thread_id, ns, checkpoint_id FROM {schema}.checkpoint WHERE metadata ->> 'run_id' = ANY ($1::text[])

-- name: chain
-- The checkpoints of a thread with what pruning needs to know: the head first, then the newest.
SELECT c.ns, c.checkpoint_id, c.parent_id, c.kind, c.payload, c.channels, c.versions, c.metadata::text AS metadata
FROM {schema}.checkpoint c LEFT JOIN {schema}.thread t ON t.thread_id = c.thread_id AND c.ns = '' AND t.head = c.checkpoint_id
WHERE c.thread_id = $1 ORDER BY t.head IS NULL, c.checkpoint_id DESC

-- name: step_back
-- Of a thread whose head is to be deleted: the nearest ancestor that is not. $1 thread $2 namespaces $3 ids, pairwise
WITH RECURSIVE gone AS (
    SELECT g.checkpoint_id FROM unnest($2::text[], $3::text[]) AS g (ns, checkpoint_id) WHERE g.ns = ''
), up AS (
    SELECT head AS id FROM {schema}.thread WHERE thread_id = $1
    UNION ALL
    SELECT c.parent_id FROM up JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = up.id
    WHERE up.id IN (SELECT checkpoint_id FROM gone)
)
UPDATE {schema}.thread SET head = up.id FROM up
WHERE thread_id = $1 AND up.id NOT IN (SELECT checkpoint_id FROM gone)

-- name: delete_checkpoints
-- $1 thread $2 namespaces $3 ids, pairwise $4 whether the records of what models have cost stay
WITH gone AS (SELECT * FROM unnest($2::text[], $3::text[]) AS g (ns, checkpoint_id)),
     a AS (DELETE FROM {schema}.task_write t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     b AS (DELETE FROM {schema}.task_effect t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     c AS (DELETE FROM {schema}.llm_call t USING gone g
           WHERE t.thread_id = $1 AND (t.ns = g.ns OR t.attempt = 0) AND t.checkpoint_id = g.checkpoint_id),
     d AS (DELETE FROM {schema}.step_attempt t USING gone g
           WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     e AS (DELETE FROM {schema}.model_call t USING gone g
           WHERE NOT $4::boolean AND t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id),
     f AS (DELETE FROM {schema}.provenance t USING gone g
           WHERE t.thread_id = $1 AND (t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id
                                       OR t.committed_ns = g.ns AND t.committed = g.checkpoint_id)),
     h AS (DELETE FROM {schema}.question t USING gone g
           WHERE t.thread_id = $1 AND (t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id
                                       OR g.ns = '' AND t.root_id = g.checkpoint_id))
DELETE FROM {schema}.checkpoint t USING gone g
WHERE t.thread_id = $1 AND t.ns = g.ns AND t.checkpoint_id = g.checkpoint_id

-- name: orphan_parents
-- A checkpoint whose parent was pruned becomes a root.
UPDATE {schema}.checkpoint c SET parent_id = NULL
WHERE c.thread_id = $1 AND c.parent_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM {schema}.checkpoint p
    WHERE p.thread_id = $1 AND p.ns = c.ns AND p.checkpoint_id = c.parent_id)

-- name: sweep
-- After checkpoints went: values that no checkpoint names, and no value that one names builds on. $1 thread
WITH RECURSIVE needed AS (
    SELECT c.ns, ref.channel COLLATE "C", ref.version COLLATE "C"
    FROM {schema}.checkpoint c, unnest(c.channels, c.versions) AS ref (channel, version) WHERE c.thread_id = $1
    UNION
    SELECT needed.ns, needed.channel, x.base FROM needed CROSS JOIN LATERAL (
        SELECT y.base FROM {schema}.channel_value y
        WHERE y.thread_id = $1 AND y.ns = needed.ns AND y.channel = needed.channel AND y.version = needed.version
        LIMIT 1) x
    WHERE x.base IS NOT NULL
)
DELETE FROM {schema}.channel_value x
WHERE x.thread_id = $1 AND NOT EXISTS (
    SELECT 1 FROM needed n WHERE n.ns = x.ns AND n.channel = x.channel AND n.version = x.version)

-- name: reset_head
-- Deleting checkpoints fences the runs that might continue from them. The head stays if it is there still; it need not have
-- the greatest id, since ids are made by the clocks of workers.
UPDATE {schema}.thread t SET token = DEFAULT, worker_id = NULL, running_since = NULL, updated_at = now(), head = COALESCE(
    (SELECT checkpoint_id FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = t.head),
    (SELECT max(checkpoint_id) FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = ''))
WHERE t.thread_id = $1

-- name: copy_thread
-- What the source cost is shown for the copy too, but not charged to any route again.
-- $1 source $2 target
WITH a AS (INSERT INTO {schema}.checkpoint
               (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats, created_at)
           SELECT $2, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats, created_at
           FROM {schema}.checkpoint WHERE thread_id = $1),
     b AS (INSERT INTO {schema}.channel_value (thread_id, ns, channel, version, kind, value, base)
           SELECT $2, ns, channel, version, kind, value, base FROM {schema}.channel_value WHERE thread_id = $1),
     c AS (INSERT INTO {schema}.task_write SELECT $2, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value
           FROM {schema}.task_write WHERE thread_id = $1),
     d AS (INSERT INTO {schema}.task_effect SELECT $2, ns, checkpoint_id, task_id, kind, effect
           FROM {schema}.task_effect WHERE thread_id = $1),
     e AS (INSERT INTO {schema}.llm_call
               (thread_id, ns, checkpoint_id, task_id, attempt, request, nth, kind, answer, created_at)
           SELECT $2, ns, checkpoint_id, task_id, attempt, request, nth, kind, answer, created_at
           FROM {schema}.llm_call WHERE thread_id = $1),
     f AS (INSERT INTO {schema}.model_call
               (id, thread_id, ns, checkpoint_id, task_id, attempt, node, outcome, model, offline, input_tokens,
                output_tokens, usd, record, created_at)
           SELECT gen_random_uuid(), $2, ns, checkpoint_id, task_id, attempt, node, outcome, model, offline, input_tokens,
                  output_tokens, usd, record, created_at
           FROM {schema}.model_call WHERE thread_id = $1),
     g AS (INSERT INTO {schema}.step_attempt
               (thread_id, ns, checkpoint_id, attempts, repairs, drifts, llm_reused, ms, asked_again)
           SELECT $2, ns, checkpoint_id, attempts, repairs, drifts, llm_reused, ms, asked_again
           FROM {schema}.step_attempt WHERE thread_id = $1),
     h AS (INSERT INTO {schema}.provenance
           SELECT $2, ns, checkpoint_id, task_id, committed_ns, committed, root, callers, channels, kind, effect
           FROM {schema}.provenance WHERE thread_id = $1)
INSERT INTO {schema}.thread (thread_id, head, graph, status, error, version, structure, input_head)
SELECT $2, head, graph, status, error, version, structure, input_head FROM {schema}.thread WHERE thread_id = $1

-- name: encrypted_values_of_checkpoint
-- Of the copy of a thread: the rows with encrypted values, where they are, and what they are bound to. $1 thread
SELECT ctid::text AS at, ns, checkpoint_id, kind, payload AS value FROM {schema}.checkpoint WHERE thread_id = $1

-- name: encrypted_values_of_channel_value
SELECT ctid::text AS at, ns, channel, version, kind, value, base FROM {schema}.channel_value WHERE thread_id = $1

-- name: encrypted_values_of_task_write
SELECT ctid::text AS at, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value
FROM {schema}.task_write WHERE thread_id = $1

-- name: encrypted_values_of_task_effect
SELECT ctid::text AS at, ns, checkpoint_id, task_id, kind, effect AS value
FROM {schema}.task_effect WHERE thread_id = $1

-- name: encrypted_values_of_provenance
SELECT ctid::text AS at, ns, checkpoint_id, task_id, kind, effect AS value
FROM {schema}.provenance WHERE thread_id = $1

-- name: encrypted_values_of_llm_call
SELECT ctid::text AS at, request, kind, answer AS value FROM {schema}.llm_call WHERE thread_id = $1

-- name: replace_checkpoint
-- $1 where the row is $2 kind $3 value
UPDATE {schema}.checkpoint SET kind = $2, payload = $3 WHERE ctid = $1::text::tid

-- name: replace_channel_value
UPDATE {schema}.channel_value SET kind = $2, value = $3 WHERE ctid = $1::text::tid

-- name: replace_task_write
UPDATE {schema}.task_write SET kind = $2, value = $3 WHERE ctid = $1::text::tid

-- name: replace_task_effect
UPDATE {schema}.task_effect SET kind = $2, effect = $3 WHERE ctid = $1::text::tid

-- name: replace_provenance
UPDATE {schema}.provenance SET kind = $2, effect = $3 WHERE ctid = $1::text::tid

-- name: replace_llm_call
UPDATE {schema}.llm_call SET kind = $2, answer = $3 WHERE ctid = $1::text::tid

-- name: encrypted_texts_of_metadata
-- Likewise the encrypted texts, and what they are bound to beside the thread. $1 thread
SELECT ctid::text AS at, ns, checkpoint_id AS detail, metadata::text AS text
FROM {schema}.checkpoint WHERE thread_id = $1

-- name: encrypted_texts_of_stats
SELECT ctid::text AS at, ns, checkpoint_id AS detail, stats::text AS text
FROM {schema}.checkpoint WHERE thread_id = $1 AND stats IS NOT NULL

-- name: encrypted_texts_of_call
SELECT ctid::text AS at, ns, node AS detail, record::text AS text FROM {schema}.model_call WHERE thread_id = $1

-- name: encrypted_texts_of_error
SELECT ctid::text AS at, NULL AS ns, NULL AS detail, error AS text
FROM {schema}.thread WHERE thread_id = $1 AND error IS NOT NULL

-- name: replace_metadata
-- $1 where the row is $2 text
UPDATE {schema}.checkpoint SET metadata = $2::text::jsonb WHERE ctid = $1::text::tid

-- name: replace_stats
UPDATE {schema}.checkpoint SET stats = $2::text::jsonb WHERE ctid = $1::text::tid

-- name: replace_call
UPDATE {schema}.model_call SET record = $2::text::jsonb WHERE ctid = $1::text::tid

-- name: replace_error
UPDATE {schema}.thread SET error = $2 WHERE ctid = $1::text::tid
