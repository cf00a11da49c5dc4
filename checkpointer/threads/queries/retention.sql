-- What is old, how much room it takes. `{schema}` is the quoted schema.

-- name: of_rule
-- The threads `t` (with their workers `w`) that a rule is about.
-- $2 graph, or null for all that have no rule of their own $3 the graphs that have $4 age $5 whether those that wait for an
-- answer are taken too $6 the channel of questions $7 only those with a history: more than one checkpoint
-- Nor those for which a queued run waits.
-- Subqueries that look at one row of a thread: as EXISTS they would become joins, which read whole tables. A run that has
-- completed has left no question, and whoever runs its thread after it changes the status first.
t.updated_at < now() - $4::interval
AND CASE WHEN $2::text IS NULL THEN t.graph IS NULL OR t.graph <> ALL ($3::text[]) ELSE t.graph = $2 END
AND (SELECT r.nr FROM {schema}.queued_run r
     WHERE r.thread_id = t.thread_id AND r.state IN ('queued', 'running') LIMIT 1) IS NULL
AND (t.running_since IS NULL OR w.worker_id IS NULL OR w.seen_at < now() - interval '1 minute')
AND ($5 OR t.status = 'completed' OR t.status <> 'interrupted' AND (
    SELECT q.idx FROM {schema}.task_write q
    WHERE q.thread_id = t.thread_id AND q.ns = '' AND q.checkpoint_id = t.head AND q.channel = $6 LIMIT 1) IS NULL)
AND (NOT $7 OR (
    SELECT c.checkpoint_id FROM {schema}.checkpoint c
    WHERE c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id <> t.head LIMIT 1) IS NOT NULL)

-- name: checkpoints_of_due
-- How many checkpoints a thread has, counted up to $8.
(SELECT count(*) FROM (SELECT FROM {schema}.checkpoint c WHERE c.thread_id = due.thread_id LIMIT $8) AS counted)

-- name: due
-- In the order of their ids. $1 after which id $9 how many at most
SELECT due.thread_id, {checkpoints_of_due} AS checkpoints
FROM (SELECT t.thread_id FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
      WHERE {of_rule} AND t.thread_id > $1 ORDER BY t.thread_id LIMIT $9) due
ORDER BY due.thread_id

-- name: some_due
-- From here and there in the table, if it is large. $1 how many at most $9 percent of its pages
SELECT due.thread_id, {checkpoints_of_due} AS checkpoints
FROM (SELECT t.thread_id FROM {schema}.thread t TABLESAMPLE SYSTEM ($9) LEFT JOIN {schema}.worker w USING (worker_id)
      WHERE {of_rule} ORDER BY md5(t.thread_id) LIMIT $1) due

-- name: due_sums
-- $1 shares, see `sampled_bytes`
WITH due AS (SELECT t.thread_id FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id) WHERE {of_rule})
SELECT threads, 150 * threads + COALESCE(bytes, 0)::bigint AS bytes
FROM (SELECT count(*) AS threads FROM due) n,
     (SELECT round(sum(r.bytes)) AS bytes FROM ({sampled_bytes}) r JOIN due USING (thread_id)) b

-- name: lock_due
-- Those of the threads that the rule is about still, locked; not those that somebody is at work on right now. $1 ids
SELECT t.thread_id FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
WHERE {of_rule} AND t.thread_id = ANY ($1::text[]) ORDER BY t.thread_id FOR UPDATE OF t SKIP LOCKED

-- How many bytes a row takes in its table, about: indexes and what a page wastes are not in it.

-- name: size_of_checkpoint
pg_column_size(payload) + pg_column_size(channels) + pg_column_size(versions) + pg_column_size(metadata)
+ COALESCE(pg_column_size(stats), 0) + 140

-- name: size_of_channel_value
pg_column_size(value) + COALESCE(pg_column_size(base), 0) + 120

-- name: size_of_task_write
pg_column_size(value) + 180

-- name: size_of_task_effect
pg_column_size(effect) + 160

-- name: size_of_provenance
pg_column_size(effect) + 160

-- name: size_of_llm_call
COALESCE(pg_column_size(answer), 0) + 220

-- name: size_of_model_call
pg_column_size(record) + 220

-- name: size_of_step_attempt
150

-- name: row_bytes
SELECT thread_id, {size_of_checkpoint} AS bytes FROM {schema}.checkpoint
UNION ALL SELECT thread_id, {size_of_channel_value} FROM {schema}.channel_value
UNION ALL SELECT thread_id, {size_of_task_write} FROM {schema}.task_write
UNION ALL SELECT thread_id, {size_of_task_effect} FROM {schema}.task_effect
UNION ALL SELECT thread_id, {size_of_llm_call} FROM {schema}.llm_call
UNION ALL SELECT thread_id, {size_of_model_call} FROM {schema}.model_call
UNION ALL SELECT thread_id, {size_of_step_attempt} FROM {schema}.step_attempt
UNION ALL SELECT thread_id, {size_of_provenance} FROM {schema}.provenance
UNION ALL SELECT thread_id, 150 FROM {schema}.thread

-- name: sampled_bytes
-- As `row_bytes`, but for the rows of threads themselves: of some pages of each table, each row for as many as it stands.
-- $1 percent of the pages, of each table in this order; all of a table of 100
SELECT thread_id, ({size_of_checkpoint}) * 100 / ($1::float4[])[1] AS bytes
FROM {schema}.checkpoint TABLESAMPLE SYSTEM (($1::float4[])[1])
UNION ALL SELECT thread_id, ({size_of_channel_value}) * 100 / ($1::float4[])[2]
FROM {schema}.channel_value TABLESAMPLE SYSTEM (($1::float4[])[2])
UNION ALL SELECT thread_id, ({size_of_task_write}) * 100 / ($1::float4[])[3]
FROM {schema}.task_write TABLESAMPLE SYSTEM (($1::float4[])[3])
UNION ALL SELECT thread_id, ({size_of_task_effect}) * 100 / ($1::float4[])[4]
FROM {schema}.task_effect TABLESAMPLE SYSTEM (($1::float4[])[4])
UNION ALL SELECT thread_id, ({size_of_llm_call}) * 100 / ($1::float4[])[5]
FROM {schema}.llm_call TABLESAMPLE SYSTEM (($1::float4[])[5])
UNION ALL SELECT thread_id, ({size_of_model_call}) * 100 / ($1::float4[])[6]
FROM {schema}.model_call TABLESAMPLE SYSTEM (($1::float4[])[6])
UNION ALL SELECT thread_id, ({size_of_step_attempt}) * 100 / ($1::float4[])[7]
FROM {schema}.step_attempt TABLESAMPLE SYSTEM (($1::float4[])[7])
UNION ALL SELECT thread_id, ({size_of_provenance}) * 100 / ($1::float4[])[8]
FROM {schema}.provenance TABLESAMPLE SYSTEM (($1::float4[])[8])

-- name: bytes_of_threads
-- $1 ids
SELECT thread_id, sum(bytes)::bigint AS bytes FROM ({row_bytes}) r WHERE thread_id = ANY ($1::text[]) GROUP BY thread_id

-- name: by_thread
-- The largest, with how many rows tell so. $1 shares, see `sampled_bytes` $2 how many
SELECT r.thread_id, t.graph, t.status, t.updated_at, r.bytes, r.seen FROM (
    SELECT thread_id, 150 + round(sum(bytes))::bigint AS bytes, count(*) AS seen FROM ({sampled_bytes}) x
    GROUP BY thread_id ORDER BY bytes DESC, thread_id LIMIT $2) r
JOIN {schema}.thread t USING (thread_id) ORDER BY r.bytes DESC, r.thread_id

-- name: by_graph
-- $1 shares, see `sampled_bytes`
SELECT t.graph, t.threads, 150 * t.threads + COALESCE(r.bytes, 0)::bigint AS bytes
FROM (SELECT graph, count(*) AS threads FROM {schema}.thread GROUP BY graph) t
LEFT JOIN (SELECT graph, round(sum(x.bytes)) AS bytes FROM ({sampled_bytes}) x JOIN {schema}.thread USING (thread_id)
           GROUP BY graph) r ON r.graph IS NOT DISTINCT FROM t.graph
ORDER BY bytes DESC, t.graph

-- name: by_table
-- With indexes and what is stored out of line, as the disk has it; and the pages of the table alone. $1 schema
SELECT c.relname AS of_table, pg_total_relation_size(c.oid) AS bytes,
       pg_relation_size(c.oid) / current_setting('block_size')::integer AS pages
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY bytes DESC, c.relname

-- name: count_threads
SELECT count(*) FROM {schema}.thread
