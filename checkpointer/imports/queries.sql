-- Taking threads over. `{schema}` is the quoted schema.

-- name: begin
-- The row of a thread that is new here. None comes back if it is there. $1 thread
INSERT INTO {schema}.thread (thread_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING 1

-- name: lock
-- A thread that is there. Nobody runs it on while this is locked. $1 thread
SELECT t.head, t.updated_at, (SELECT c.created_at FROM {schema}.checkpoint c
                              WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = t.head) AS made_at
FROM {schema}.thread t WHERE t.thread_id = $1 FOR UPDATE OF t

-- name: look
-- The same, without a lock. $1 thread
SELECT t.head, t.updated_at, (SELECT c.created_at FROM {schema}.checkpoint c
                              WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = t.head) AS made_at
FROM {schema}.thread t WHERE t.thread_id = $1

-- name: ids
SELECT ns, checkpoint_id FROM {schema}.checkpoint WHERE thread_id = $1

-- name: put_checkpoint
-- $1 thread $2 ns $3 id $4 parent $5 kind $6 payload $7 channels $8 versions $9 metadata $10 when it was made
INSERT INTO {schema}.checkpoint
    (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::text[], $8::text::text[], $9::text::jsonb, COALESCE($10, now()))
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET parent_id = EXCLUDED.parent_id, kind = EXCLUDED.kind, payload = EXCLUDED.payload, channels = EXCLUDED.channels,
        versions = EXCLUDED.versions, metadata = EXCLUDED.metadata, created_at = EXCLUDED.created_at

-- name: put_value
-- $1 thread $2 ns $3 channel $4 version $5 kind $6 value
INSERT INTO {schema}.channel_value (thread_id, ns, channel, version, kind, value) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING

-- name: put_write
-- $1 thread $2 ns $3 checkpoint $4 task $5 idx $6 path $7 channel $8 kind $9 value
INSERT INTO {schema}.task_write (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE
    SET task_path = EXCLUDED.task_path, channel = EXCLUDED.channel, kind = EXCLUDED.kind, value = EXCLUDED.value

-- name: finish
-- The times are those of its checkpoints, and equal the head's: so one that nobody has touched here can be told.
-- $1 thread $2 head $3 graph or null $4 status $5 error or null
UPDATE {schema}.thread t
SET head = $2, graph = COALESCE(t.graph, $3), status = $4, error = $5, token = DEFAULT,
    created_at = COALESCE((SELECT min(c.created_at) FROM {schema}.checkpoint c WHERE c.thread_id = $1), t.created_at),
    updated_at = COALESCE((SELECT c.created_at FROM {schema}.checkpoint c
                           WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = $2), t.updated_at)
WHERE t.thread_id = $1

-- name: counts
-- $1 thread
SELECT (SELECT count(*) FROM {schema}.checkpoint WHERE thread_id = $1) AS checkpoints,
       (SELECT count(*) FROM {schema}.task_write WHERE thread_id = $1) AS writes

-- name: missing_values
-- Channels of which a checkpoint names a version that is not there. $1 thread
SELECT DISTINCT ref.channel
FROM {schema}.checkpoint c, unnest(c.channels, c.versions) AS ref (channel, version)
WHERE c.thread_id = $1 AND NOT EXISTS (
    SELECT 1 FROM {schema}.channel_value v
    WHERE v.thread_id = $1 AND v.ns = c.ns AND v.channel = ref.channel AND v.version = ref.version)
