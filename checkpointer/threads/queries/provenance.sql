-- What results that are committed rest on; `commit.queries` stores it. `{schema}` is the quoted schema. Each is one round
-- trip.

-- name: history
-- The tasks on the way to the checkpoint $2 of the outermost graph, those of subgraphs included, with what they rest on:
-- first to last, what counts in the end last. And the tasks of which there are writes and nothing else (kind is null).
-- Nested super-steps of the one that is under way at $2 are among them.
-- $1 thread $2 checkpoint $3 all of it, and not only since the latest input
WITH RECURSIVE way AS (
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' AS source, 0 AS depth
    FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = $2
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source', way.depth + 1
    FROM way CROSS JOIN LATERAL (
        SELECT x.checkpoint_id, x.parent_id, x.metadata FROM {schema}.checkpoint x
        WHERE x.thread_id = $1 AND x.ns = '' AND x.checkpoint_id = way.parent_id LIMIT 1) c
    WHERE $3::boolean OR way.source <> 'input'
), known AS (
    SELECT p.*, CASE WHEN p.committed_ns = '' THEN way.depth + 1 ELSE way.depth + 0.5 END AS depth
    FROM way JOIN {schema}.provenance p ON p.thread_id = $1
     AND way.checkpoint_id = CASE WHEN p.committed_ns = '' THEN p.committed ELSE p.root END
), wrote AS (
    SELECT w.ns, w.checkpoint_id, w.task_id, way.checkpoint_id AS root, way.depth, w.channel, w.task_path
    FROM way JOIN {schema}.task_write w ON w.thread_id = $1 AND w.ns = '' AND w.checkpoint_id = way.checkpoint_id
    WHERE way.depth > 0
    UNION ALL
    SELECT w.ns, w.checkpoint_id, w.task_id, way.checkpoint_id, way.depth + 0.5, w.channel, w.task_path
    FROM way JOIN {schema}.checkpoint c
      ON c.thread_id = $1 AND c.ns <> '' AND c.metadata -> 'parents' ->> '' = way.checkpoint_id
    JOIN {schema}.task_write w ON w.thread_id = $1 AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id
)
SELECT k.ns, k.checkpoint_id, k.task_id, k.root, k.callers, k.channels, '' AS task_path, k.kind, k.effect,
       k.depth::float8 AS depth, k.committed AS place
FROM known k
UNION ALL
SELECT o.ns, o.checkpoint_id, o.task_id, o.root, '{}', array_agg(o.channel), min(o.task_path), NULL, NULL,
       o.depth::float8, o.checkpoint_id
FROM wrote o WHERE NOT EXISTS (
    SELECT FROM known k WHERE k.ns = o.ns AND k.checkpoint_id = o.checkpoint_id AND k.task_id = o.task_id)
GROUP BY o.ns, o.checkpoint_id, o.task_id, o.root, o.depth
ORDER BY depth DESC, place, task_id

-- name: has_gaps
-- Whether something that the run to the checkpoint $2 has read was not kept: it, or a part of it, ran otherwise, or its history
-- was pruned. $1 thread $2 checkpoint
WITH RECURSIVE way AS (
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' AS source, c.stats
    FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = $2
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source', c.stats
    FROM way CROSS JOIN LATERAL (
        SELECT x.checkpoint_id, x.parent_id, x.metadata, x.stats FROM {schema}.checkpoint x
        WHERE x.thread_id = $1 AND x.ns = '' AND x.checkpoint_id = way.parent_id LIMIT 1) c
    WHERE way.source <> 'input'
), ended AS (
    SELECT '' AS ns, checkpoint_id, stats FROM way
    UNION ALL
    SELECT c.ns, c.checkpoint_id, c.stats FROM {schema}.checkpoint c
    WHERE c.thread_id = $1 AND c.ns <> '' AND c.metadata -> 'parents' ->> '' IN (SELECT checkpoint_id FROM way)
)
SELECT NOT EXISTS (SELECT FROM way WHERE source = 'input')
    OR EXISTS (SELECT FROM ended e WHERE (e.stats ->> 'reads')::integer > 0 AND NOT EXISTS (
           SELECT FROM {schema}.provenance p
           WHERE p.thread_id = $1 AND p.committed_ns = e.ns AND p.committed = e.checkpoint_id))

-- name: writes_since
-- How many domain writes a thread has committed in super-steps that started from this checkpoint or from later ones of the
-- way to the head, those of subgraphs included. $1 thread $2 checkpoint
WITH RECURSIVE later AS (
    SELECT c.checkpoint_id, c.parent_id, c.stats
    FROM {schema}.thread t JOIN {schema}.checkpoint c
      ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.head
    WHERE t.thread_id = $1 AND c.checkpoint_id <> $2
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.stats
    FROM later JOIN {schema}.checkpoint c
      ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = later.parent_id AND c.checkpoint_id <> $2
)
SELECT COALESCE(sum((stats ->> 'writes')::integer), 0) FROM (
    SELECT stats FROM later
    UNION ALL
    SELECT c.stats FROM {schema}.checkpoint c
    WHERE c.thread_id = $1 AND c.ns <> ''
      AND (c.metadata -> 'parents' ->> '' = $2 OR c.metadata -> 'parents' ->> '' IN (SELECT checkpoint_id FROM later))
) every

-- name: changed_since
-- Whether a human, or another program, has given the thread anything but an answer since this checkpoint: an update of the
-- state, be it with an answer. $1 thread $2 checkpoint
WITH RECURSIVE later AS (
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' AS source
    FROM {schema}.thread t JOIN {schema}.checkpoint c
      ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.head
    WHERE t.thread_id = $1 AND c.checkpoint_id <> $2
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source'
    FROM later JOIN {schema}.checkpoint c
      ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = later.parent_id AND c.checkpoint_id <> $2
)
SELECT EXISTS (SELECT FROM later WHERE source NOT IN ('loop', 'input'))
    OR EXISTS (SELECT FROM {schema}.task_write w
               WHERE w.thread_id = $1 AND w.ns = '' AND w.task_id = '00000000-0000-0000-0000-000000000000' AND w.idx >= 0
                 AND (w.checkpoint_id = $2 OR w.checkpoint_id IN (SELECT checkpoint_id FROM later)))

-- name: answered
-- $1 thread $2 checkpoint
SELECT DISTINCT task_id FROM {schema}.task_write WHERE thread_id = $1 AND ns = '' AND checkpoint_id = $2 AND idx = -4

-- name: rewind
-- Make an earlier checkpoint the latest again: what came after it goes, and what the tasks of its super-step have
-- returned is a hypothesis again. If another branch of the history has its roots there, all stays. No row without the
-- commit right. Values that no checkpoint names any more are left for
-- pruning. $1 thread $2 token $3 checkpoint
WITH RECURSIVE own AS (
    UPDATE {schema}.thread SET head = $3, updated_at = now() WHERE thread_id = $1 AND token = $2 RETURNING thread_id
), later AS (
    SELECT c.checkpoint_id, c.parent_id
    FROM {schema}.thread t JOIN {schema}.checkpoint c
      ON c.thread_id = t.thread_id AND c.ns = '' AND c.checkpoint_id = t.head
    WHERE t.thread_id = $1 AND c.checkpoint_id <> $3
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id
    FROM later JOIN {schema}.checkpoint c
      ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = later.parent_id AND c.checkpoint_id <> $3
), shared AS (
    SELECT 1 FROM {schema}.checkpoint c JOIN later ON c.parent_id = later.checkpoint_id
    WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id NOT IN (SELECT checkpoint_id FROM later)
), gone AS (
    DELETE FROM {schema}.checkpoint c USING own
    WHERE c.thread_id = $1 AND NOT EXISTS (SELECT FROM shared) AND (
          c.ns = '' AND c.checkpoint_id IN (SELECT checkpoint_id FROM later)
       OR c.ns <> '' AND c.metadata -> 'parents' ->> '' IN (SELECT checkpoint_id FROM later))
    RETURNING c.ns, c.checkpoint_id
), tasks AS (
    DELETE FROM {schema}.task_write w USING gone g
    WHERE w.thread_id = $1 AND w.ns = g.ns AND w.checkpoint_id = g.checkpoint_id
), effects AS (
    DELETE FROM {schema}.task_effect e USING gone g
    WHERE e.thread_id = $1 AND e.ns = g.ns AND e.checkpoint_id = g.checkpoint_id
), answers AS (
    DELETE FROM {schema}.llm_call m USING gone g
    WHERE m.thread_id = $1 AND (m.ns = g.ns OR m.attempt = 0) AND m.checkpoint_id = g.checkpoint_id
), attempts AS (
    DELETE FROM {schema}.step_attempt a USING gone g
    WHERE a.thread_id = $1 AND a.ns = g.ns AND a.checkpoint_id = g.checkpoint_id
), kept AS (
    DELETE FROM {schema}.provenance p USING gone g
    WHERE p.thread_id = $1 AND (p.ns = g.ns AND p.checkpoint_id = g.checkpoint_id
                                OR p.committed_ns = g.ns AND p.committed = g.checkpoint_id)
), back AS (
    SELECT DISTINCT ON (p.task_id) p.task_id, p.kind, p.effect FROM own, {schema}.provenance p
    WHERE p.thread_id = $1 AND p.ns = '' AND p.checkpoint_id = $3 AND p.committed IN (SELECT checkpoint_id FROM later)
    ORDER BY p.task_id, p.committed DESC
), hypotheses AS (
    INSERT INTO {schema}.task_effect (thread_id, ns, checkpoint_id, task_id, kind, effect)
    SELECT $1, '', $3, task_id, kind, effect FROM back
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id) DO UPDATE SET kind = EXCLUDED.kind, effect = EXCLUDED.effect
)
SELECT thread_id FROM own
