-- What is old, how much room it takes. `{schema}` is the quoted schema.

-- name: of_rule
-- The threads `t` (with their workers `w`) that a rule is about.
-- $1 graph, or null for all that have no rule of their own $2 the graphs that have $3 age $4 whether those that wait for an
-- answer are taken too $5 the channel of questions $6 only those with a history: more than one checkpoint
t.updated_at < now() - $3::interval
AND CASE WHEN $1::text IS NULL THEN t.graph IS NULL OR t.graph <> ALL ($2::text[]) ELSE t.graph = $1 END
AND (t.running_since IS NULL OR w.worker_id IS NULL OR w.seen_at < now() - interval '1 minute')
AND ($4 OR t.status <> 'interrupted' AND NOT EXISTS (
    SELECT 1 FROM {schema}.task_write q
    WHERE q.thread_id = t.thread_id AND q.ns = '' AND q.checkpoint_id = t.head AND q.channel = $5))
AND (NOT $6 OR EXISTS (
    SELECT 1 FROM {schema}.checkpoint c WHERE c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id < t.head))

-- name: due
-- In the order of their ids. $7 after which id $8 how many at most
SELECT t.thread_id FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
WHERE {of_rule} AND t.thread_id > $7 ORDER BY t.thread_id LIMIT $8

-- name: lock_due
-- Those of the threads that the rule is about still, locked; not those that somebody is at work on right now. $7 ids
SELECT t.thread_id FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
WHERE {of_rule} AND t.thread_id = ANY ($7::text[]) ORDER BY t.thread_id FOR UPDATE OF t SKIP LOCKED

-- name: row_bytes
-- How many bytes each row takes in its table, about: indexes and what a page wastes are not in it.
SELECT thread_id, 'checkpoint' AS of_table, pg_column_size(payload) + pg_column_size(channels)
       + pg_column_size(versions) + pg_column_size(metadata) + COALESCE(pg_column_size(stats), 0) + 140 AS bytes
FROM {schema}.checkpoint
UNION ALL SELECT thread_id, 'channel_value', pg_column_size(value) + COALESCE(pg_column_size(base), 0) + 120
    FROM {schema}.channel_value
UNION ALL SELECT thread_id, 'task_write', pg_column_size(value) + 180 FROM {schema}.task_write
UNION ALL SELECT thread_id, 'task_effect', pg_column_size(effect) + 160 FROM {schema}.task_effect
UNION ALL SELECT thread_id, 'llm_call', COALESCE(pg_column_size(answer), 0) + 220 FROM {schema}.llm_call
UNION ALL SELECT thread_id, 'model_call', pg_column_size(record) + 220 FROM {schema}.model_call
UNION ALL SELECT thread_id, 'step_attempt', 150 FROM {schema}.step_attempt
UNION ALL SELECT thread_id, 'thread', 150 FROM {schema}.thread

-- name: bytes_of_threads
-- $1 ids
SELECT COALESCE(sum(bytes), 0)::bigint FROM ({row_bytes}) r WHERE thread_id = ANY ($1::text[])

-- name: by_thread
-- The largest. $1 how many
SELECT r.thread_id, t.graph, t.status, t.updated_at, sum(r.bytes)::bigint AS bytes
FROM ({row_bytes}) r JOIN {schema}.thread t USING (thread_id)
GROUP BY r.thread_id, t.graph, t.status, t.updated_at ORDER BY bytes DESC, r.thread_id LIMIT $1

-- name: by_graph
SELECT t.graph, count(DISTINCT r.thread_id) AS threads, sum(r.bytes)::bigint AS bytes
FROM ({row_bytes}) r JOIN {schema}.thread t USING (thread_id) GROUP BY t.graph ORDER BY bytes DESC, t.graph

-- name: by_table
-- With indexes and what is stored out of line, as the disk has it. $1 schema
SELECT c.relname AS of_table, pg_total_relation_size(c.oid) AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY bytes DESC, c.relname

-- name: count_threads
SELECT count(*) FROM {schema}.thread
