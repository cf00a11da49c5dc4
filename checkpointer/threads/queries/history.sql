-- Looking back. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.

-- Lists of checkpoints, newest first, as `codec.checkpoint_tuple` takes them. A page begins below the last row of the page
-- before it, where an index leads to: it costs as much as it has rows, whatever came before it. One statement for each
-- way to ask, with a bound that is always there: `$1 IS NULL OR ...` would be a scan in a plan for all parameters. CASE: of
-- `@>` a planner thinks that it leaves next to nothing, and would read and sort the whole thread for each page.

-- name: list_of_id
-- One, and its namesakes in copies. $1 id $2 thread or null $3 ns or null $4 below this id, or null $5 metadata filter
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint
      WHERE checkpoint_id || '' = $1 AND ($2::text IS NULL OR thread_id = $2) AND ($3::text IS NULL OR ns = $3)
        AND ($4::text IS NULL OR checkpoint_id < $4) AND metadata @> $5::text::jsonb) c
{value_joins}
{tuple_joins}
ORDER BY c.thread_id DESC, c.ns DESC

-- name: list_of_namespace
-- $1 thread $2 ns $3 below this id, or null $4 metadata filter $5 limit or null
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint
      WHERE thread_id = $1 AND ns = $2 AND checkpoint_id < COALESCE($3, (
                SELECT max(checkpoint_id) FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2) || ' ')
        AND CASE WHEN metadata @> $4::text::jsonb THEN true END
      ORDER BY checkpoint_id DESC LIMIT $5) c
{value_joins}
{tuple_joins}
ORDER BY c.checkpoint_id DESC

-- name: list_of_thread
-- The newest of each namespace, and of those the newest. A namespace is found as the first after the one before it.
-- $1 thread $2 below this id, or null $3 metadata filter $4 limit or null
WITH RECURSIVE space AS (
    SELECT (SELECT min(ns) FROM {schema}.checkpoint WHERE thread_id = $1) AS ns
    UNION ALL
    SELECT (SELECT min(ns) FROM {schema}.checkpoint WHERE thread_id = $1 AND ns > space.ns) FROM space
    WHERE space.ns IS NOT NULL
), page AS (
    SELECT space.ns, x.checkpoint_id FROM space CROSS JOIN LATERAL (
        SELECT checkpoint_id FROM {schema}.checkpoint c
        WHERE thread_id = $1 AND c.ns = space.ns AND checkpoint_id < COALESCE($2, (
                  SELECT max(checkpoint_id) FROM {schema}.checkpoint m WHERE thread_id = $1 AND m.ns = space.ns) || ' ')
          AND CASE WHEN metadata @> $3::text::jsonb THEN true END
        ORDER BY checkpoint_id DESC LIMIT $4) x
    ORDER BY x.checkpoint_id DESC LIMIT $4
)
SELECT c.thread_id, {tuple_columns}
FROM page JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = page.ns AND c.checkpoint_id = page.checkpoint_id
{value_joins}
{tuple_joins}
ORDER BY c.checkpoint_id DESC

-- name: list_of_all
-- `checkpoint_id || ''` is what the index has. Of several threads, copies have the same ids.
-- $1 ns or null $2 below this id, or null $3 and of that id below this thread, or null $4 and namespace, or null
-- $5 metadata filter, or null $6 limit or null
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint
      WHERE ($1::text IS NULL OR ns = $1)
        AND (checkpoint_id || '', thread_id, ns) < (
                COALESCE($2, (SELECT max(checkpoint_id || '') FROM {schema}.checkpoint) || ' '), COALESCE($3, ''),
                COALESCE($4, ''))
        AND ($5::text IS NULL OR metadata @> $5::text::jsonb)
      ORDER BY checkpoint_id || '' DESC, thread_id DESC, ns DESC LIMIT $6) c
{value_joins}
{tuple_joins}
ORDER BY c.checkpoint_id DESC, c.thread_id DESC, c.ns DESC

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

-- name: thread_columns
-- Of a thread `t` and its worker `w`.
t.thread_id, t.graph, t.version, t.status, t.error, t.created_at, t.updated_at, t.worker_id, t.running_since,
w.host, w.machine, w.pid, w.mark, extract(epoch FROM now() - w.seen_at)::float8 AS silent,
(SELECT count(*) FROM {schema}.checkpoint c WHERE c.thread_id = t.thread_id AND c.stats IS NOT NULL) AS steps

-- name: thread
SELECT {thread_columns}
FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id)
WHERE t.head IS NOT NULL AND t.thread_id = $1

-- name: threads
-- The one that changed last first. `changed_in` is `updated_at` rounded down, and what the index has.
-- $1 limit or null $2, $3 only what comes after a thread with this `updated_at` and id; infinity: all
SELECT {thread_columns}
FROM (SELECT * FROM {schema}.thread
      WHERE head IS NOT NULL AND changed_in <= date_bin('10 seconds', $2::timestamptz, '2000-01-01 00:00+00')
        AND (updated_at, thread_id) < ($2, $3)
      ORDER BY changed_in DESC, updated_at DESC, thread_id DESC LIMIT $1) t
LEFT JOIN {schema}.worker w USING (worker_id)
ORDER BY t.changed_in DESC, t.updated_at DESC, t.thread_id DESC

-- name: threads_where
-- As above, of some threads only. $4 graph, or null $5 version, or null $6 statuses, or null $7 unchanged for so long, or null
SELECT {thread_columns}
FROM (SELECT * FROM {schema}.thread
      WHERE head IS NOT NULL AND changed_in <= date_bin('10 seconds', $2::timestamptz, '2000-01-01 00:00+00')
        AND (updated_at, thread_id) < ($2, $3)
        AND ($4::text IS NULL OR graph = $4) AND ($5::text IS NULL OR version = $5)
        AND ($6::text[] IS NULL OR status = ANY ($6)) AND ($7::interval IS NULL OR updated_at < now() - $7)
      ORDER BY changed_in DESC, updated_at DESC, thread_id DESC LIMIT $1) t
LEFT JOIN {schema}.worker w USING (worker_id)
ORDER BY t.changed_in DESC, t.updated_at DESC, t.thread_id DESC

-- name: ids_from
-- $1 the first id, or what it would begin with $2 how many at most
SELECT thread_id FROM {schema}.thread WHERE head IS NOT NULL AND thread_id >= $1 ORDER BY thread_id LIMIT $2

-- name: call_sums
-- What the calls `m` come to. Only answers count as paid. No price is known (null) if models answered, and none of them
-- has one; offline models need none.
count(*) FILTER (WHERE m.outcome = 'answered')::integer AS llm_paid,
COALESCE(sum(m.input_tokens), 0)::bigint AS input_tokens, COALESCE(sum(m.output_tokens), 0)::bigint AS output_tokens,
COALESCE(bool_and(m.offline), true) AS offline,
COALESCE(sum(m.usd) FILTER (WHERE NOT m.offline),
         CASE WHEN COALESCE(bool_and(m.offline) FILTER (WHERE m.outcome = 'answered'), true) THEN 0 END) AS usd

-- name: steps
-- The latest. The calls of a step are found by the checkpoint it started from.
-- $1 thread $2 after this checkpoint, or null $3 how many at most, or null
SELECT c.ns, c.checkpoint_id, c.metadata::text AS metadata, c.stats::text AS stats, c.created_at, calls.*
FROM (SELECT * FROM {schema}.checkpoint
      WHERE thread_id = $1 AND stats IS NOT NULL AND checkpoint_id > COALESCE($2, '')
      ORDER BY checkpoint_id DESC LIMIT $3) c
CROSS JOIN LATERAL (
    SELECT {call_sums},
           COALESCE(jsonb_agg(m.record || jsonb_build_object(
               'node', m.node, 'outcome', m.outcome, 'model', m.model,
               'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens, 'usd', m.usd
           ) ORDER BY m.created_at, m.id), '[]')::text AS calls
    FROM {schema}.model_call m
    WHERE m.thread_id = c.thread_id AND m.ns = c.ns AND m.checkpoint_id = c.parent_id
) calls
ORDER BY c.checkpoint_id

-- name: steps_from
-- $1 thread $2 the first id, or what it would begin with $3 how many at most
SELECT checkpoint_id FROM {schema}.checkpoint
WHERE thread_id = $1 AND stats IS NOT NULL AND checkpoint_id >= $2 ORDER BY checkpoint_id LIMIT $3

-- name: last_input
-- Where the thread's latest run began. Ids are time-ordered, so everything of that run has a greater or equal one.
SELECT checkpoint_id FROM {schema}.checkpoint
WHERE thread_id = $1 AND ns = '' AND metadata ->> 'source' = 'input' ORDER BY checkpoint_id DESC LIMIT 1

-- name: traceparent
-- Of the latest checkpoint of the outermost graph that says one, of the last few: what has changed the state since, from
-- outside of runs, says none. $1 thread $2 key of metadata
SELECT said FROM (
    SELECT checkpoint_id, metadata ->> $2::text AS said FROM {schema}.checkpoint
    WHERE thread_id = $1 AND ns = '' ORDER BY checkpoint_id DESC LIMIT 16) latest
WHERE said IS NOT NULL ORDER BY checkpoint_id DESC LIMIT 1

-- name: usage
SELECT {call_sums} FROM {schema}.model_call m WHERE m.thread_id = $1 AND m.checkpoint_id >= COALESCE($2, '')

-- name: asked_again
SELECT COALESCE(array_agg(x), '{}') FROM {schema}.step_attempt a, unnest(a.asked_again) AS x WHERE a.thread_id = $1
