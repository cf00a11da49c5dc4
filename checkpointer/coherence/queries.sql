-- What was measured in a window of time. `{schema}` is the quoted schema. Each is one round trip, and only reads, but for
-- `put_reconciliation`. A window is $1 from, $2 to (exclusive), by the database's clock; $3 is the graph, or null for all.
-- What a copy of a thread has taken over from its source is older than the copy's row, and is left out: it counts once.

-- name: of_window
-- Of checkpoints or calls `x` with their thread `t`.
x.created_at >= $1 AND x.created_at < $2 AND x.created_at >= t.created_at AND ($3::text IS NULL OR t.graph = $3)

-- name: now
SELECT now()

-- name: kept_since
-- From when on there are so many super-steps that something was kept of, at most $4: null if there are fewer.
SELECT x.created_at FROM {schema}.checkpoint x JOIN {schema}.thread t USING (thread_id)
WHERE {of_window} AND {is_measured}
ORDER BY x.created_at DESC OFFSET $4 LIMIT 1

-- name: is_measured
x.stats ?| ARRAY['facts', 'observed', 'guards', 'conflicts']

-- name: kept
-- A page of super-steps that something was kept of, and of inputs, in the order of time. $4-$7 the last row of the page
-- before (time, thread, namespace, id) $8 how many
SELECT x.created_at, x.thread_id, x.ns, x.checkpoint_id, t.graph, x.stats::text AS stats
FROM {schema}.checkpoint x JOIN {schema}.thread t USING (thread_id)
WHERE {of_window} AND x.created_at >= $4
  AND (x.created_at, x.thread_id, x.ns, x.checkpoint_id) > ($4, $5, $6, $7)
  AND ({is_measured} OR x.stats IS NULL AND x.ns = '' AND x.metadata ->> 'source' = 'input')
ORDER BY x.created_at, x.thread_id, x.ns, x.checkpoint_id LIMIT $8

-- name: steps
SELECT t.graph, count(*) AS steps,
       sum((x.stats ->> 'attempts')::bigint)::bigint AS attempts, sum((x.stats ->> 'repairs')::bigint)::bigint AS repairs,
       sum((x.stats ->> 'drifts')::bigint)::bigint AS drifts,
       count(*) FILTER (WHERE (x.stats ->> 'escalated')::boolean) AS escalations,
       count(*) FILTER (WHERE x.stats ->> 'commit' = 'replay') AS replays,
       sum((x.stats ->> 'reads')::bigint)::bigint AS reads, sum((x.stats ->> 'writes')::bigint)::bigint AS writes,
       sum((x.stats ->> 'llm_reused')::bigint)::bigint AS llm_reused,
       COALESCE(sum((x.stats ->> 'waited_ms')::float8), 0) AS waited_ms,
       sum((x.stats ->> 'ms')::float8) AS sum_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (x.stats ->> 'ms')::float8) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY (x.stats ->> 'ms')::float8) AS p95_ms
FROM {schema}.checkpoint x JOIN {schema}.thread t USING (thread_id)
WHERE {of_window} AND x.stats IS NOT NULL
GROUP BY t.graph ORDER BY steps DESC, t.graph

-- name: calls
-- By provider and model. Of an encrypted record neither the provider nor what was tried can be read.
SELECT x.record ->> 'provider' AS provider, x.model, bool_or(x.offline) AS offline, count(*) AS calls,
       count(*) FILTER (WHERE x.outcome <> 'answered') AS failed,
       sum(x.input_tokens)::bigint AS input_tokens, sum(x.output_tokens)::bigint AS output_tokens,
       COALESCE(sum(x.usd), CASE WHEN bool_and(x.offline) THEN 0 END) AS usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY {ms}) FILTER (WHERE x.outcome = 'answered') AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY {ms}) FILTER (WHERE x.outcome = 'answered') AS p95_ms
FROM {schema}.model_call x JOIN {schema}.thread t USING (thread_id)
WHERE {of_window}
GROUP BY 1, 2 ORDER BY calls DESC, 1, 2

-- name: ms
jsonb_path_query_first(x.record, '$.ms ? (@ >= 0)')::float8

-- name: deployments
-- Requests to deployments, and those of them that did not give the answer. Those that were not even asked took no time.
SELECT deployment, count(*) AS requests, count(*) FILTER (WHERE failed) AS failed FROM (
    SELECT x.record ->> 'deployment' AS deployment, false AS failed
    FROM {schema}.model_call x JOIN {schema}.thread t USING (thread_id) WHERE {of_window} AND x.outcome = 'answered'
    UNION ALL
    SELECT f ->> 'deployment', true
    FROM {schema}.model_call x JOIN {schema}.thread t USING (thread_id),
         jsonb_path_query(x.record -> 'tried', '$[*] ? (@.ms > 0)') f
    WHERE {of_window}
) r WHERE deployment IS NOT NULL GROUP BY 1 ORDER BY requests DESC, 1

-- name: flows
-- Threads that have changed in the window, by how their last run ended.
SELECT t.graph, t.status, count(*) AS flows FROM {schema}.thread t
WHERE t.head IS NOT NULL AND t.changed_in >= date_bin('10 seconds', $1::timestamptz, '2000-01-01 00:00+00')
  AND t.updated_at >= $1 AND t.updated_at < $2 AND ($3::text IS NULL OR t.graph = $3)
GROUP BY 1, 2 ORDER BY 1, 2

-- name: reconciliations
-- The latest of each flow.
SELECT count(*) AS flows, count(*) FILTER (WHERE differs) AS differing FROM (
    SELECT DISTINCT ON (thread_id) differs FROM {schema}.reconciliation
    WHERE decided_at >= $1 AND decided_at < $2 AND ($3::text IS NULL OR graph = $3)
    ORDER BY thread_id, decided_at DESC) r

-- name: finished
-- Threads whose last run has completed, any of them. $4 how many
SELECT t.thread_id FROM {schema}.thread t
WHERE t.head IS NOT NULL AND t.status = 'completed'
  AND t.changed_in >= date_bin('10 seconds', $1::timestamptz, '2000-01-01 00:00+00')
  AND t.updated_at >= $1 AND t.updated_at < $2 AND ($3::text IS NULL OR t.graph = $3)
ORDER BY random() LIMIT $4

-- name: measured_of
-- Super-steps of a thread in their order, after a checkpoint, and what was done to it by hand. $1 thread $2 checkpoint
SELECT ns, checkpoint_id, stats::text AS stats FROM {schema}.checkpoint
WHERE thread_id = $1 AND checkpoint_id > $2 AND (stats IS NOT NULL OR metadata ->> 'source' IN ('fork', 'update'))
ORDER BY checkpoint_id

-- name: put_reconciliation
-- $1 thread $2 checkpoint $3 graph $4 differs $5 channels $6 paid $7 reused
INSERT INTO {schema}.reconciliation (thread_id, checkpoint_id, graph, differs, channels, llm_paid, llm_reused)
VALUES ($1, $2, $3, $4, $5, $6, $7)
