-- LangGraph's own tables, as langgraph-checkpoint-postgres has made them since its release 2.0. Read only. `{schema}` is the
-- quoted schema of these tables. Pages go on behind the last row of the page before, where an index leads to.

-- name: columns
-- $1 schema
SELECT table_name || '.' || column_name AS name FROM information_schema.columns
WHERE table_schema = $1 AND table_name IN ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes')

-- name: threads
-- $1 after this one $2 how many
SELECT DISTINCT thread_id FROM {schema}.checkpoints WHERE thread_id > $1 ORDER BY thread_id LIMIT $2

-- name: how_many
SELECT count(DISTINCT thread_id) FROM {schema}.checkpoints

-- name: ids
-- $1 thread
SELECT checkpoint_ns AS ns, checkpoint_id FROM {schema}.checkpoints WHERE thread_id = $1

-- name: checkpoints
-- In each namespace the oldest first. $1 thread $2, $3 behind this namespace and id $4 how many
SELECT c.checkpoint_ns AS ns, c.checkpoint_id, c.parent_checkpoint_id AS parent_id, c.checkpoint::text AS body,
       c.metadata::text AS metadata,
       ARRAY(SELECT b.channel FROM jsonb_each_text(c.checkpoint -> 'channel_versions') v
             JOIN {schema}.checkpoint_blobs b
               ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns AND b.channel = v.key
              AND b.version = v.value
             WHERE b.type <> 'empty') AS stored
FROM {schema}.checkpoints c
WHERE c.thread_id = $1 AND (c.checkpoint_ns, c.checkpoint_id) > ($2, $3)
ORDER BY c.checkpoint_ns, c.checkpoint_id LIMIT $4

-- name: values
-- Rows until they are so many or so large together, one at least. `found`: how many there were without regard to size.
-- $1 thread $2-$4 behind this namespace, channel, version $5 how many $6 bytes
SELECT ns, channel, version, kind, data, found FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY ns, channel, version) - octet_length(data) AS before,
           count(*) OVER () AS found
    FROM (SELECT checkpoint_ns AS ns, channel, version, type AS kind, COALESCE(blob, '') AS data
          FROM {schema}.checkpoint_blobs
          WHERE thread_id = $1 AND (checkpoint_ns, channel, version) > ($2, $3, $4) AND type <> 'empty'
          ORDER BY checkpoint_ns, channel, version LIMIT $5) AS page) AS sized
WHERE before < $6 ORDER BY ns, channel, version

-- name: writes
-- Likewise. $1 thread $2-$5 behind this namespace, checkpoint, task, index $6 how many $7 bytes $8 index at most
SELECT ns, checkpoint_id, task_id, idx, task_path, channel, kind, data, found FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY ns, checkpoint_id, task_id, idx) - octet_length(data) AS before,
           count(*) OVER () AS found
    FROM (SELECT checkpoint_ns AS ns, checkpoint_id, task_id, idx, task_path, channel,
                 COALESCE(type, 'null') AS kind, blob AS data
          FROM {schema}.checkpoint_writes
          WHERE thread_id = $1 AND (checkpoint_ns, checkpoint_id, task_id, idx) > ($2, $3, $4, $5) AND idx <= $8
          ORDER BY checkpoint_ns, checkpoint_id, task_id, idx LIMIT $6) AS page) AS sized
WHERE before < $7 ORDER BY ns, checkpoint_id, task_id, idx

-- name: how_many_writes
-- Those that can be found: of a checkpoint that is there. $1 thread
SELECT count(*) FROM {schema}.checkpoint_writes w WHERE thread_id = $1 AND EXISTS (
    SELECT 1 FROM {schema}.checkpoints c
    WHERE c.thread_id = $1 AND c.checkpoint_ns = w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id)

-- name: sends
-- What the tasks before a checkpoint have sent, in the order of LangGraph. $1 thread $2 the checkpoint's parent
SELECT type AS kind, blob AS data FROM {schema}.checkpoint_writes
WHERE thread_id = $1 AND checkpoint_id = $2 AND channel = '__pregel_tasks' ORDER BY task_path, task_id, idx
