-- Answers of language models and records of their calls. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.

-- name: memo_get
-- The answer, if there is one, and whether the run still owns the thread (token $8; null: a caller outside any run). One
-- that does not must not pay for answers either.
-- The first execution of the task in a run goes on with the answers of the last one before ($9, or looked up): that is what
-- a human was shown. Retries count on from there.
WITH since AS (
    SELECT COALESCE($9::integer, (SELECT max(attempt) FROM {schema}.llm_call
                                  WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3 AND task_id = $4), 1) AS attempt
)
SELECT ($8::bigint IS NULL OR t.token = $8) AS owned, m.kind, m.answer, since.attempt AS since
FROM {schema}.thread t CROSS JOIN since LEFT JOIN {schema}.llm_call m
  ON m.thread_id = t.thread_id AND m.ns = $2 AND m.checkpoint_id = $3 AND m.task_id = $4
 AND m.attempt = since.attempt + $5 - 1 AND m.request = $6 AND m.nth = $7
WHERE t.thread_id = $1

-- name: answer_in
-- An answer that a thread was given, wherever it asked. $1 thread $2 request $3 how many of them come before it
SELECT kind, answer FROM {schema}.llm_call
WHERE thread_id = $1 AND request = $2 AND answer IS NOT NULL ORDER BY created_at, checkpoint_id, nth OFFSET $3 LIMIT 1

-- name: memo_take_over
-- An answer that was paid in a subgraph which its caller runs again: it becomes the answer of this call. And whether the run
-- still owned the thread: one that does not finds nothing, whatever there is.
-- Locks are waited for. The try before, or a run that has lost the thread since, may hold them in a connection that is gone
-- and still ending: what comes of that decides whether the answer is here, and skipping it would pay for another one. The
-- thread's row comes first, as everywhere.
-- $1 thread $2 ns $3 checkpoint $4 task $5 attempt $6 request $7 nth $8 token or null
-- $9 names of the nodes around it  $10 checkpoints and $11 ids of its callers
WITH own AS (
    SELECT thread_id FROM {schema}.thread WHERE thread_id = $1 AND ($8::bigint IS NULL OR token = $8) FOR SHARE
), taken AS (
    UPDATE {schema}.llm_call m SET ns = $2, checkpoint_id = $3, task_id = $4, attempt = $5, nth = $7
    WHERE m.ctid = (
        SELECT k.ctid FROM own, {schema}.llm_call k
        WHERE k.thread_id = $1 AND k.ns = $9 AND k.attempt = 0 AND k.request = $6
          AND k.checkpoint_id = ANY ($10::text[]) AND k.task_id = ANY ($11::text[])
        ORDER BY k.nth LIMIT 1 FOR UPDATE OF k)
    RETURNING kind, answer
)
SELECT EXISTS (SELECT FROM own) AS owned, kind, answer FROM (VALUES (1)) one LEFT JOIN taken ON true

-- name: call_of_owner
-- Two parts of a statement: the commit right, and the record of a model call. A late worker's answer must not stand where
-- the owner looks for its own, so without the right (token $6; null: a caller outside any run) nothing is stored.
-- $1 thread $2 ns $3 checkpoint $4 task $5 attempt $6 token
-- $7 id $8 node $9 outcome $10 model $11 offline $12 input tokens $13 output tokens $14 usd $15 route $16 record
own AS (
    SELECT thread_id FROM {schema}.thread WHERE thread_id = $1 AND ($6::bigint IS NULL OR token = $6) FOR SHARE
), call AS (
    INSERT INTO {schema}.model_call (thread_id, ns, checkpoint_id, task_id, attempt, id, node, outcome, model, offline,
                                     input_tokens, output_tokens, usd, route, record)
    SELECT thread_id, $2, $3, $4, $5, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::text::jsonb FROM own
    ON CONFLICT DO NOTHING
    RETURNING thread_id
)

-- name: record_call
WITH {call_of_owner} SELECT count(*) FROM own

-- name: memo_put
-- A paid answer for a task that asks again, and the record of its call. $17 request $18 nth $19 kind $20 answer
WITH {call_of_owner}, memo AS (
    INSERT INTO {schema}.llm_call (thread_id, ns, checkpoint_id, task_id, attempt, request, nth, kind, answer)
    SELECT thread_id, $2, $3, $4, $5, $17, $18, $19, $20 FROM own
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM own

-- name: memo_put_for_caller
-- The same, if a caller of the task is to run again: to where it looks for what was paid in its subgraphs (`memo_take_over`),
-- behind what is there. Once: with the record.
-- $21 names of the nodes around the task  $22 the checkpoint that the caller's super-step started from $23 the caller
WITH {call_of_owner}, memo AS (
    INSERT INTO {schema}.llm_call (thread_id, ns, checkpoint_id, task_id, attempt, request, nth, kind, answer)
    SELECT thread_id, $21, $22, $23, 0, $17, $18::integer + COALESCE((
               SELECT max(nth) + 1 FROM {schema}.llm_call
               WHERE thread_id = $1 AND ns = $21 AND checkpoint_id = $22 AND task_id = $23 AND attempt = 0 AND request = $17
           ), 0), $19, $20 FROM call
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM own

-- name: spent
-- Tokens and US dollars of a thread, of its latest run, and of a route. $1 thread $2 route or null $3 seconds or null
-- $4 the checkpoint that the run began from, if its input is not stored
WITH run AS (
    SELECT COALESCE($4::text, max(checkpoint_id), '') AS since FROM {schema}.checkpoint
    WHERE thread_id = $1 AND ns = '' AND metadata ->> 'source' = 'input'
), thread AS (
    SELECT sum(input_tokens + output_tokens) AS tokens, sum(usd) AS usd,
           sum(input_tokens + output_tokens) FILTER (WHERE checkpoint_id >= since) AS run_tokens,
           sum(usd) FILTER (WHERE checkpoint_id >= since) AS run_usd
    FROM run, {schema}.model_call WHERE thread_id = $1
), route AS (
    SELECT sum(input_tokens + output_tokens) AS route_tokens, sum(usd) AS route_usd
    FROM {schema}.model_call
    WHERE route = $2 AND ($3::double precision IS NULL OR created_at > now() - make_interval(secs => $3))
)
SELECT COALESCE(tokens, 0)::bigint AS tokens, COALESCE(usd, 0) AS usd,
       COALESCE(run_tokens, 0)::bigint AS run_tokens, COALESCE(run_usd, 0) AS run_usd,
       COALESCE(route_tokens, 0)::bigint AS route_tokens, COALESCE(route_usd, 0) AS route_usd
FROM thread, route

-- name: deployment_health
-- How deployments of models did lately, as the records of calls tell it. Those that were not even asked (a limit, an open
-- circuit) took no time and are left out. What an answer took is what its call took, without the attempts before it,
-- which are taken to have followed each other from the call's beginning. The latest 200 attempts are listed, newest first.
-- $1 seconds
WITH call AS (
    SELECT id, created_at, outcome, record -> 'tried' AS tried, record ->> 'deployment' AS deployment,
           COALESCE(jsonb_path_query_first(record, '$.ms ? (@ >= 0)')::double precision, 0) AS ms
    FROM {schema}.model_call WHERE route IS NOT NULL AND created_at > now() - make_interval(secs => $1)
), failure AS (
    SELECT c.id, c.created_at, c.ms AS whole, f.nth, f.value ->> 'deployment' AS deployment, f.value ->> 'why' AS why,
           COALESCE((f.value -> 'counts')::boolean, true) AS counts,
           (f.value -> 'ms')::double precision AS ms
    FROM call c, jsonb_path_query(c.tried, '$[*] ? (@.ms > 0)') WITH ORDINALITY AS f (value, nth)
), attempt AS (
    SELECT deployment, false AS answered, why, counts, ms,
           created_at - make_interval(secs => GREATEST(whole - sum(ms) OVER (PARTITION BY id ORDER BY nth), 0) / 1000) AS at
    FROM failure
    UNION ALL
    SELECT deployment, true, NULL, false,
           GREATEST(ms - COALESCE((SELECT sum(f.ms) FROM failure f WHERE f.id = c.id), 0), 0), created_at
    FROM call c WHERE outcome = 'answered'
)
SELECT deployment, count(*) AS calls, count(*) FILTER (WHERE NOT answered) AS failed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE answered) AS p50_ms,
       max(at) FILTER (WHERE NOT answered) AS last_failure_at,
       (array_agg(why ORDER BY at DESC) FILTER (WHERE NOT answered))[1] AS last_failure,
       (array_agg(at ORDER BY at DESC))[:200] AS moments, (array_agg(answered ORDER BY at DESC))[:200] AS results,
       (array_agg(counts ORDER BY at DESC))[:200] AS counts
FROM attempt WHERE deployment IS NOT NULL GROUP BY deployment
