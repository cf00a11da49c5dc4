-- What goes on right now. `{schema}` is the quoted schema. Each is one round trip and reads along indexes by time: none
-- costs more than what has happened in its window.

-- name: running
-- Threads that a run is at work on, the longest first, with the super-step that is under way and what its attempts
-- before this one came to. Found among those that have changed in the window $1: a run has changed its thread when it
-- began, and with each super-step. $2 how many
SELECT t.thread_id, t.graph, t.worker_id, t.running_since, w.host, w.machine, w.pid, w.mark,
       extract(epoch FROM now() - w.seen_at)::float8 AS silent,
       extract(epoch FROM now() - t.running_since)::float8 AS run_seconds,
       COALESCE((c.metadata ->> 'step')::integer + 1, 0) AS step,
       extract(epoch FROM now() - GREATEST(c.created_at, t.running_since))::float8 AS step_seconds,
       COALESCE(a.attempts, 1) AS attempts, COALESCE(a.drifts, 0) AS drifts
FROM {schema}.thread t
JOIN {schema}.worker w USING (worker_id)
LEFT JOIN {schema}.checkpoint c ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.head
LEFT JOIN {schema}.step_attempt a ON a.thread_id = t.thread_id AND a.ns = '' AND a.checkpoint_id = t.head
WHERE t.running_since IS NOT NULL AND t.changed_in >= date_bin('10 seconds', now() - $1::interval, '2000-01-01 00:00+00')
ORDER BY t.running_since, t.thread_id LIMIT $2

-- name: steps
-- Super-steps that have committed in the window $1, those of subgraphs included.
SELECT count(*) AS steps, COALESCE(sum((stats ->> 'attempts')::bigint), 0)::bigint - count(*) AS conflicts,
       COALESCE(sum((stats ->> 'repairs')::bigint), 0)::bigint AS repairs,
       COALESCE(sum((stats ->> 'drifts')::bigint), 0)::bigint AS drifts
FROM {schema}.checkpoint WHERE created_at >= now() - $1::interval AND stats IS NOT NULL

-- name: spend
-- Calls of models in the longer window $2, and of these in the shorter one $1. Without any known price the sum is null.
SELECT count(*) FILTER (WHERE created_at >= now() - $1::interval) AS calls_lately,
       sum(usd) FILTER (WHERE created_at >= now() - $1::interval) AS usd_lately,
       count(*) AS calls, sum(usd) AS usd, COALESCE(sum(input_tokens + output_tokens), 0)::bigint AS tokens, now() AS at
FROM {schema}.model_call WHERE created_at >= now() - $2::interval
