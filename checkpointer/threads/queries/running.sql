-- Taking a thread, loading it, and what is stored on the way to a commit. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.

-- name: claim
-- Take the thread for a run: raise the fencing token, remember the graph, its version and who runs it. No row: the thread
-- belongs to another graph, to another process than the one it was found at, or was run with another version last.
-- `is_new`: the outermost graph has no checkpoint. Whoever stores its first one sets the head, and whoever stores any
-- has the thread's row first. So a thread that the statement does not see yet, and that has no head when its row is
-- locked, has none; and what was made after the snapshot of the statement is seen by its head.
-- $1 thread  $2 graph name or null  $3 worker or null  $4 only if the thread is found at $5, a worker or null
-- $6 version or null  $7 structure or null  $8 whatever version it was run with  $9 whether the run brings new input, or null
-- $10 only for this queued run, as it was given out as $11; or null. Whoever gives it out anew waits for this statement.
-- $12 only if the thread is there with this token, or null  $13 the question that is answered then, or null: noted with it
WITH own AS (SELECT 1 WHERE ($10::uuid IS NULL OR EXISTS (
        SELECT 1 FROM {schema}.queued_run WHERE run_id = $10 AND delivery = $11::integer AND state = 'running' FOR SHARE))
    AND ($12::bigint IS NULL OR EXISTS (SELECT 1 FROM {schema}.thread WHERE thread_id = $1))
), taken AS (
INSERT INTO {schema}.thread AS t (thread_id, graph, worker_id, running_since, version, structure)
SELECT $1, $2, $3, CASE WHEN $3::uuid IS NOT NULL THEN now() END, $6, $7 FROM own
ON CONFLICT (thread_id) DO UPDATE
    SET token = DEFAULT, graph = COALESCE(t.graph, $2), status = 'unfinished', error = NULL, updated_at = now(),
        worker_id = $3, running_since = CASE WHEN $3 = t.worker_id THEN t.running_since ELSE EXCLUDED.running_since END,
        version = COALESCE($6, t.version), structure = COALESCE($7, t.structure),
        input_head = CASE WHEN COALESCE($9, true) THEN CASE WHEN $9 THEN t.head END ELSE t.input_head END
    WHERE ($2::text IS NULL OR t.graph IS NULL OR t.graph = $2)
      AND (NOT $4::boolean OR t.worker_id IS NOT DISTINCT FROM $5::uuid)
      AND ($8::boolean OR $6::text IS NULL OR t.version IS NULL OR t.version = $6 AND t.structure = $7)
      AND ($12::bigint IS NULL OR t.token = $12)
RETURNING token, head, head IS NULL AND NOT EXISTS (SELECT 1 FROM {schema}.thread WHERE thread_id = $1) AS is_new
), answered AS (
    UPDATE {schema}.question SET taken_by = $10 WHERE number = $13::bigint AND EXISTS (SELECT FROM taken)
)
SELECT token, head, is_new FROM taken

-- name: is_given_out
-- $1 queued run $2 as what it was given out $3 the token that its thread is to have, or null $4 thread
SELECT EXISTS (SELECT FROM {schema}.queued_run WHERE run_id = $1 AND delivery = $2 AND state = 'running')
   AND ($3::bigint IS NULL OR EXISTS (SELECT FROM {schema}.thread WHERE thread_id = $4 AND token = $3))

-- name: claim_again
-- Take the thread for the next attempt of the same call, from the attempt before. No row: somebody else has it, or it is
-- deleted. Repeated after a lost connection it finds its own claim.
-- $1 thread  $2 token of the attempt before  $3 names this claim
UPDATE {schema}.thread SET token = DEFAULT, claim_id = $3, status = 'unfinished', error = NULL, updated_at = now()
WHERE thread_id = $1 AND (token = $2 OR claim_id = $3)
RETURNING token, head, false AS is_new

-- name: finish
-- How a run ended, unless another has taken the thread since.
UPDATE {schema}.thread
SET status = $3, error = $4, updated_at = now(), worker_id = NULL, running_since = NULL WHERE thread_id = $1 AND token = $2

-- name: secret
SELECT kind, value FROM {schema}.encryption WHERE name = $1

-- name: put_secret
-- The first one counts. $1 name $2 kind $3 value
INSERT INTO {schema}.encryption (name, kind, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: get_latest
-- The head of the root namespace, whatever the clocks of those who made the ids; in the others the greatest id.
-- $1 thread $2 ns
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = COALESCE(
          (SELECT head FROM {schema}.thread WHERE thread_id = $1 AND $2 = ''),
          (SELECT max(checkpoint_id) FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2))) c
{value_joins}
{tuple_joins}

-- name: get_one
-- $1 thread $2 ns $3 id
SELECT c.thread_id, {tuple_columns}
FROM (SELECT * FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3) c
{value_joins}
{tuple_joins}

-- name: hypotheses
-- What the saved results of a super-step rest on, and what its earlier attempts cost.
-- $1 thread $2 ns $3 checkpoint
SELECT e.task_id, e.kind, e.effect, NULL::integer AS attempts, NULL::integer AS repairs, NULL::integer AS drifts,
       NULL::integer AS llm_reused, NULL::double precision AS ms, NULL::text[] AS asked_again, NULL::text[] AS comes_first,
       NULL::boolean AS escalated, NULL::double precision AS waited_ms, NULL::text AS conflicts
FROM {schema}.task_effect e WHERE e.thread_id = $1 AND e.ns = $2 AND e.checkpoint_id = $3
UNION ALL
SELECT NULL, NULL, NULL, a.attempts, a.repairs, a.drifts, a.llm_reused, a.ms, a.asked_again, a.comes_first, a.escalated,
       a.waited_ms, a.conflicts::text
FROM {schema}.step_attempt a WHERE a.thread_id = $1 AND a.ns = $2 AND a.checkpoint_id = $3

-- name: put_writes
-- The results of tasks, each with its effect. Replaces whatever another worker left for the same tasks. Nothing without
-- the commit right: $16 is the token of the run, or null for a caller outside any run.
-- $1 thread $2 ns $3 checkpoint $4-$9 writes (task, idx, path, channel, kind, value)
-- $10 tasks whose older output goes  $11 how many output rows each of them has now
-- $12-$14 effects (task, kind, effect)  $15 tasks whose LLM memo goes
-- $17 whether one has taken the answer that names no question: it is for no other (see `discard` for where it is kept)
WITH own AS (SELECT 1 WHERE $16::bigint IS NULL OR EXISTS (
        SELECT 1 FROM {schema}.thread WHERE thread_id = $1 AND token = $16 FOR SHARE)),
gone AS (
    DELETE FROM {schema}.task_write w USING own, unnest($10::text[], $11::integer[]) AS k (task_id, kept)
    WHERE w.thread_id = $1 AND w.ns = $2 AND w.checkpoint_id = $3 AND w.task_id = k.task_id AND w.idx >= k.kept
), answer AS (
    DELETE FROM {schema}.task_write w USING own
    WHERE $17::boolean AND w.thread_id = $1 AND w.idx = -4 AND w.task_id = '00000000-0000-0000-0000-000000000000'
), old_effects AS (
    DELETE FROM {schema}.task_effect e USING own
    WHERE e.thread_id = $1 AND e.ns = $2 AND e.checkpoint_id = $3 AND e.task_id = ANY ($10::text[])
      AND e.task_id <> ALL ($12::text[])
), memo AS (
    DELETE FROM {schema}.llm_call m USING own
    WHERE m.thread_id = $1 AND m.checkpoint_id = $3 AND m.task_id = ANY ($15::text[]) AND (m.ns = $2 OR m.attempt = 0)
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
-- is kept with the root's checkpoint also when the question came from a subgraph)  $12 tasks that come before the others
-- $13 whether turns were taken  $14 ms waited for them  $15 conflicts by key, as JSON
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
    (thread_id, ns, checkpoint_id, attempts, repairs, drifts, llm_reused, ms, asked_again, comes_first, escalated,
     waited_ms, conflicts)
SELECT $1, $2, $3, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::jsonb FROM own
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET attempts = EXCLUDED.attempts, repairs = EXCLUDED.repairs, drifts = EXCLUDED.drifts,
        llm_reused = EXCLUDED.llm_reused, ms = EXCLUDED.ms, asked_again = a.asked_again || EXCLUDED.asked_again,
        comes_first = EXCLUDED.comes_first, escalated = EXCLUDED.escalated, waited_ms = EXCLUDED.waited_ms,
        conflicts = EXCLUDED.conflicts
RETURNING 1

-- name: nested_domain_writes
-- How many domain writes the super-steps of the subgraphs that a task ran have committed.
-- $1 thread  $2 LIKE pattern of namespaces with the task's id  $3, $4 LIKE patterns of those that are kept from call to
-- call  $5 namespace and $6 checkpoint that the task's super-step started from: of the kept ones, only what came after
SELECT COALESCE(sum((stats ->> 'writes')::integer), 0) FROM {schema}.checkpoint c
WHERE thread_id = $1
  AND (ns LIKE $2 OR (ns LIKE $3 OR ns LIKE $4) AND metadata -> 'parents' ->> $5::text = $6::text)

-- name: forget_nested
-- Parameters as above, and $7 the task. Values that no checkpoint names any more are left for pruning: a kept namespace
-- shares them. Paid answers are handed to the task itself, as attempt 0, under the names of the nodes they were given in:
-- when it runs the subgraphs again, under other checkpoints, they are found there (`memo_take_over`).
WITH answers AS (
    SELECT m.ctid AS at, regexp_replace(m.ns, ':[^|]*', '', 'g') AS ns, m.request, m.created_at, m.nth
    FROM {schema}.llm_call m
    WHERE m.thread_id = $1 AND (
          m.ns LIKE $2
       OR (m.ns LIKE $3 OR m.ns LIKE $4) AND NOT EXISTS (
              SELECT 1 FROM {schema}.checkpoint c
              WHERE c.thread_id = $1 AND c.ns = m.ns AND c.checkpoint_id = m.checkpoint_id
                AND metadata -> 'parents' ->> $5::text IS DISTINCT FROM $6::text)
       OR m.attempt = 0 AND m.checkpoint_id IN (
              SELECT c.checkpoint_id FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns LIKE $2))
      AND NOT (m.attempt = 0 AND m.checkpoint_id = $6 AND m.task_id = $7)
), handed AS (
    UPDATE {schema}.llm_call m
    SET ns = a.ns, checkpoint_id = $6, task_id = $7, attempt = 0, nth = a.nth
    FROM (SELECT at, ns, row_number() OVER (PARTITION BY ns, request ORDER BY created_at, nth) + COALESCE((
                     SELECT max(k.nth) FROM {schema}.llm_call k
                     WHERE k.thread_id = $1 AND k.ns = answers.ns AND k.checkpoint_id = $6 AND k.task_id = $7
                       AND k.attempt = 0 AND k.request = answers.request), -1) AS nth
          FROM answers) a
    WHERE m.ctid = a.at
), gone AS (
    DELETE FROM {schema}.checkpoint
    WHERE thread_id = $1
      AND (ns LIKE $2 OR (ns LIKE $3 OR ns LIKE $4) AND metadata -> 'parents' ->> $5::text = $6::text)
    RETURNING ns, checkpoint_id
), b AS (
    DELETE FROM {schema}.task_write w USING gone g
    WHERE w.thread_id = $1 AND w.ns = g.ns AND w.checkpoint_id = g.checkpoint_id
), c AS (
    DELETE FROM {schema}.provenance p USING gone g
    WHERE p.thread_id = $1 AND (p.ns = g.ns AND p.checkpoint_id = g.checkpoint_id
                                OR p.committed_ns = g.ns AND p.committed = g.checkpoint_id)
)
DELETE FROM {schema}.task_effect e USING gone g
WHERE e.thread_id = $1 AND e.ns = g.ns AND e.checkpoint_id = g.checkpoint_id
