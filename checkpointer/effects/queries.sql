-- Effects, and which release made the tables of the queue. `{schema}` is the quoted schema.

-- name: queue_release
SELECT release FROM {schema}.queue_release

-- name: set_queue_release
-- $1 release
INSERT INTO {schema}.queue_release (release) VALUES ($1) ON CONFLICT (one) DO UPDATE SET release = EXCLUDED.release

-- name: at_place
-- Effects of the same topic from the same node of a thread. $2 thread $8 nodes $10 node $12 topic
e.thread_id = $2 AND e.topic = $12 AND e.node = $10 AND e.nodes = $8

-- name: put_out
-- An effect, unless one was sent from its place on another branch and there is no choice: then nothing is put, and `state`
-- is null. The way back along the branch ends where the latest of its kind was emitted, so it is as long as that is ago.
-- What was emitted from a checkpoint is on the branch if that goes on from there by the super-step, or by new input; not if
-- it goes on by an update or a fork, which leave the super-step out.
-- $1 id $2 thread $3 ns $4 checkpoint $5 task $6 nth $7 root $8 nodes $9 key $10 node $11 choice $12 topic $13 kind
-- $14 payload
WITH RECURSIVE way AS (
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' AS source, true AS counts FROM {schema}.checkpoint c
    WHERE c.thread_id = $2 AND c.ns = '' AND c.checkpoint_id = $7 AND EXISTS (
        SELECT FROM {schema}.effect e WHERE {at_place})
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.source, way.source NOT IN ('update', 'fork') FROM way CROSS JOIN LATERAL (
        SELECT x.checkpoint_id, x.parent_id, x.metadata ->> 'source' AS source FROM {schema}.checkpoint x
        WHERE x.thread_id = $2 AND x.ns = '' AND x.checkpoint_id = way.parent_id LIMIT 1) c
    WHERE NOT (way.counts AND EXISTS (
        SELECT FROM {schema}.effect e WHERE {at_place} AND e.root_id = way.checkpoint_id))
), place AS (
    SELECT 1 + COALESCE(
        (SELECT max(e.ordinal) FROM {schema}.effect e
         WHERE {at_place} AND e.root_id IN (SELECT checkpoint_id FROM way WHERE counts)),
        (SELECT max(e.ordinal) FROM {schema}.effect e
         WHERE {at_place} AND e.root_id < (SELECT min(checkpoint_id) FROM way)), 0) AS ordinal
), sent AS (
    SELECT e.id FROM {schema}.effect e, place
    WHERE {at_place} AND e.ordinal = place.ordinal AND e.state IN ('waiting', 'delivered', 'undoing', 'stuck')
    ORDER BY e.seq LIMIT 1
), put AS (
    INSERT INTO {schema}.effect
        (id, thread_id, ns, checkpoint_id, task_id, nth, root_id, nodes, node, topic, key, ordinal, state, stands_for,
         kind, payload)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $10, $12, $9, place.ordinal,
           CASE WHEN sent.id IS NOT NULL AND $11 = 'keep' THEN 'kept' ELSE 'waiting' END,
           CASE WHEN $11 = 'keep' THEN sent.id END, $13, $14
    FROM place LEFT JOIN sent ON true WHERE sent.id IS NULL OR $11::text IS NOT NULL
    RETURNING state
)
SELECT (SELECT state FROM put) AS state, (SELECT id FROM sent) AS sent

-- name: columns
e.id, e.thread_id, e.node, e.topic, e.key, e.state, e.stands_for, e.kind, e.payload, e.attempts, e.failure, e.created_at,
e.changed_at

-- name: look
-- What stands in the way of a worker that was told of an effect: one before it in line, or another worker. $1 id
SELECT {columns}, EXISTS ({ahead}) AS in_line,
       GREATEST(extract(epoch FROM e.claimed_until - clock_timestamp()), 0)::float8 AS claimed
FROM {schema}.effect e WHERE e.id = $1

-- name: in_line
-- Whether one before it in its line is not settled. One that is being settled right now is waited for. READ COMMITTED: what
-- was waited for is looked at as it is then. $1 id
SELECT 1 FROM {schema}.effect e JOIN {schema}.effect p ON p.topic = e.topic AND p.key = e.key AND p.seq < e.seq
WHERE e.id = $1 AND e.state = 'waiting' AND p.state IN ('waiting', 'dead') AND p.key IS NOT NULL LIMIT 1 FOR SHARE OF p

-- name: ahead
-- Of an effect e: one before it in its line that is not settled.
SELECT FROM {schema}.effect p WHERE e.state = 'waiting' AND p.topic = e.topic AND p.key = e.key AND p.seq < e.seq
AND p.state IN ('waiting', 'dead') AND p.key IS NOT NULL

-- name: claim
-- Nothing if another worker has claimed it, or one before it is not settled. $1 id $2 seconds
UPDATE {schema}.effect e
SET attempts = e.attempts + 1, claimed_until = clock_timestamp() + make_interval(secs => $2::float8)
WHERE e.id = $1 AND e.state IN ('waiting', 'undoing') AND NOT EXISTS ({ahead})
AND (e.claimed_until IS NULL OR e.claimed_until <= clock_timestamp())
RETURNING e.attempts

-- name: succeeded
-- Whoever has claimed it meanwhile, or has given it up: it was delivered. $1 id $2 states that it may be in $3 state
UPDATE {schema}.effect SET state = $3, claimed_until = NULL, failure = NULL, changed_at = now()
WHERE id = $1 AND state = ANY ($2::text[])

-- name: failed
-- Only by the worker whose attempt it was. $1 id $2 state that it was in $3 state $4 attempt $5 what it failed with
UPDATE {schema}.effect SET state = $3, claimed_until = NULL, failure = $5, changed_at = now()
WHERE id = $1 AND state = $2 AND attempts = $4

-- name: next_in_line
-- The effect that may be delivered now that the one before it is settled, if there is one. $1 that one's id
SELECT n.id FROM {schema}.effect e CROSS JOIN LATERAL (
    SELECT x.id FROM {schema}.effect x WHERE x.topic = e.topic AND x.key = e.key AND x.state IN ('waiting', 'dead')
    AND x.key IS NOT NULL ORDER BY x.seq LIMIT 1) n
WHERE e.id = $1 AND e.key IS NOT NULL

-- name: forget_orphan
-- A settled effect of a thread that was deleted meanwhile. $1 id
DELETE FROM {schema}.effect e WHERE e.id = $1 AND e.state IN ('delivered', 'dropped', 'undone')
AND NOT EXISTS (SELECT FROM {schema}.thread t WHERE t.thread_id = e.thread_id)

-- name: listing
-- Newest first. $1 states $2 before this number, or null $3 limit
SELECT e.seq, {columns} FROM {schema}.effect e
WHERE ($1::text[] IS NULL OR e.state = ANY ($1::text[])) AND ($2::bigint IS NULL OR e.seq < $2::bigint)
ORDER BY e.seq DESC LIMIT $3

-- name: change
-- From one of some states to another, from the beginning of its attempts. Not while a worker is at it. $1 id $2 states
-- $3 states that they become, pairwise
UPDATE {schema}.effect e
SET state = ($3::text[])[array_position($2::text[], e.state)], attempts = 0, claimed_until = NULL, changed_at = now()
WHERE e.id = $1 AND e.state = ANY ($2::text[])
AND (e.claimed_until IS NULL OR e.claimed_until <= clock_timestamp())
RETURNING e.state
