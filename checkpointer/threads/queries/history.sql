-- Looking back. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.

-- name: list
-- $1 thread or null $2 ns or null $3 id or null $4 before or null $5 metadata filter $6 limit or null
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint
      WHERE ($1::text IS NULL OR thread_id = $1) AND ($2::text IS NULL OR ns = $2)
        AND ($3::text IS NULL OR checkpoint_id = $3) AND ($4::text IS NULL OR checkpoint_id < $4)
        AND metadata @> $5::text::jsonb
      ORDER BY checkpoint_id DESC LIMIT $6) c
{value_joins}
{tuple_joins}
ORDER BY c.checkpoint_id DESC

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
SELECT checkpoint_id, task_id, channel, kind, value, idx, task_path FROM {schema}.task_write
WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = ANY ($3::text[]) AND channel = ANY ($4::text[])
ORDER BY checkpoint_id, task_path, task_id, idx

-- name: values_at
-- $1 thread $2 ns $3 channels $4 versions, pairwise
SELECT v.names AS value_names, v.kinds AS value_kinds, v.vals AS value_values, v.bases AS value_bases
FROM (SELECT $1::text AS thread_id, $2::text AS ns, $3::text[] AS channels, $4::text[] AS versions) c
{value_joins}

-- name: versions_at
-- $1 thread $2 ns $3 channels $4 versions, pairwise
SELECT x.channel, x.version FROM unnest($3::text[], $4::text[]) AS ref (channel, version)
JOIN {schema}.channel_value x
  ON x.thread_id = $1 AND x.ns = $2 AND x.channel = ref.channel AND x.version = ref.version

-- name: threads
SELECT t.thread_id, t.graph, t.status, t.error, t.created_at, t.updated_at, t.worker_id, t.running_since,
       w.host, w.machine, w.pid, w.mark, extract(epoch FROM now() - w.seen_at)::float8 AS silent,
       (SELECT count(*) FROM {schema}.checkpoint c WHERE c.thread_id = t.thread_id AND c.stats IS NOT NULL) AS steps
FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
WHERE t.head IS NOT NULL AND ($1::text IS NULL OR t.thread_id = $1)
ORDER BY t.updated_at DESC LIMIT $2

-- name: call_sums
-- What the calls `m` come to. Only answers count as paid. No price is known (null) if models answered, and none of them
-- has one; offline models need none.
count(*) FILTER (WHERE m.outcome = 'answered')::integer AS llm_paid,
COALESCE(sum(m.input_tokens), 0)::bigint AS input_tokens, COALESCE(sum(m.output_tokens), 0)::bigint AS output_tokens,
COALESCE(bool_and(m.offline), true) AS offline,
COALESCE(sum(m.usd) FILTER (WHERE NOT m.offline),
         CASE WHEN COALESCE(bool_and(m.offline) FILTER (WHERE m.outcome = 'answered'), true) THEN 0 END) AS usd

-- name: steps
-- $1 thread $2 the checkpoint after which, or null. The calls of a step are found by the checkpoint it started from.
SELECT c.ns, c.checkpoint_id, c.metadata::text AS metadata, c.stats::text AS stats, c.created_at, calls.*
FROM {schema}.checkpoint c CROSS JOIN LATERAL (
    SELECT {call_sums},
           COALESCE(jsonb_agg(m.record || jsonb_build_object(
               'node', m.node, 'outcome', m.outcome, 'model', m.model,
               'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens, 'usd', m.usd
           ) ORDER BY m.created_at, m.id), '[]')::text AS calls
    FROM {schema}.model_call m
    WHERE m.thread_id = c.thread_id AND m.ns = c.ns AND m.checkpoint_id = c.parent_id
) calls
WHERE c.thread_id = $1 AND c.stats IS NOT NULL AND ($2::text IS NULL OR c.checkpoint_id > $2)
ORDER BY c.checkpoint_id

-- name: last_input
-- Where the thread's latest run began. Ids are time-ordered, so everything of that run has a greater or equal one.
SELECT max(checkpoint_id) FROM {schema}.checkpoint
WHERE thread_id = $1 AND ns = '' AND metadata ->> 'source' = 'input'

-- name: usage
SELECT {call_sums} FROM {schema}.model_call m WHERE m.thread_id = $1 AND ($2::text IS NULL OR m.checkpoint_id >= $2)

-- name: asked_again
SELECT COALESCE(array_agg(x), '{}') FROM {schema}.step_attempt a, unnest(a.asked_again) AS x WHERE a.thread_id = $1
