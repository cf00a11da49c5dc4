-- What commits a checkpoint. `{schema}` is the quoted schema. Parameters are listed where the order is not
-- obvious. Each is one round trip; those that write are single statements, hence atomic by themselves.
-- Arrays come as text (`database.arrays`), but for those of bytes or JSON, and those that are asked for parts of.

-- name: own_root
-- Commit right of a run on the root namespace: still the owner, and the head has not moved. Takes the row lock, so two
-- commits of one thread queue here, and the second sees the first one's head.
-- $22 token  $23 head the run knows
UPDATE {schema}.thread SET head = $3, updated_at = now()
WHERE thread_id = $1 AND token = $22 AND head IS NOT DISTINCT FROM $23 RETURNING thread_id

-- name: own_nested
-- Commit right of a run on a subgraph's namespace: still the owner of the thread.
-- $22 token
SELECT thread_id FROM {schema}.thread WHERE thread_id = $1 AND token = $22 FOR SHARE

-- name: own_outside
-- A put that no run makes (update_state, a fork, a script): fences any run on the thread. What was made from the latest
-- checkpoint must continue it still: of the outermost graph the head, of a subgraph the greatest id. The head is looked
-- at under the row lock; for a subgraph the thread has to be locked before (`lock_threads`, or a serializable transaction).
-- $22 must continue the latest
INSERT INTO {schema}.thread AS t (thread_id, head)
VALUES ($1, CASE WHEN $2 = '' THEN $3 END)
ON CONFLICT (thread_id) DO UPDATE
    SET token = DEFAULT, head = CASE WHEN $2 = '' THEN $3 ELSE t.head END, updated_at = now(),
        worker_id = NULL, running_since = NULL
    WHERE NOT $22::boolean
       OR $2 = '' AND (t.head IS NULL OR t.head = $4)
       OR $2 <> '' AND NOT EXISTS (SELECT 1 FROM {schema}.checkpoint
                                   WHERE thread_id = $1 AND ns = $2 AND checkpoint_id > COALESCE($4, ''))
RETURNING thread_id

-- name: put_rows
-- The new channel values of a checkpoint, and the writes of its tasks that are not stored yet; nothing at all without the
-- commit right `own`, which stands in front of it in each of the statements below.
-- $1 thread $2 ns $3 id $4 parent $5 kind $6 payload $7 channels $8 versions $9 metadata $10 stats
-- $11-$15 new channel values (channel, version, kind, value, base)  $16-$21 writes (task, idx, path, channel, kind, value)
vals AS (
    INSERT INTO {schema}.channel_value (thread_id, ns, channel, version, kind, value, base)
    SELECT $1, $2, v.*
    FROM own, unnest($11::text::text[], $12::text::text[], $13::text::text[], $14::bytea[], $15::text::text[]) AS v
    ON CONFLICT DO NOTHING
), writes AS (
    INSERT INTO {schema}.task_write (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value)
    SELECT $1, $2, $4, w.*
    FROM own, unnest($16::text::text[], $17::text::integer[], $18::text::text[], $19::text::text[], $20::text::text[],
                     $21::bytea[]) AS w
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE
        SET task_path = EXCLUDED.task_path, channel = EXCLUDED.channel, kind = EXCLUDED.kind, value = EXCLUDED.value
)

-- name: put_checkpoint
-- The checkpoint itself, likewise.
INSERT INTO {schema}.checkpoint
    (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats)
SELECT $1, $2, $3, $4, $5, $6, $7::text::text[], $8::text::text[], $9::text::jsonb, $10::text::jsonb FROM own
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET kind = EXCLUDED.kind, payload = EXCLUDED.payload, channels = EXCLUDED.channels,
        versions = EXCLUDED.versions, metadata = EXCLUDED.metadata
RETURNING 1

-- name: put
{put_rows}
{put_checkpoint}

-- name: put_root
WITH own AS ({own_root}),
{put}

-- name: put_root_after
-- As `put_root`, behind a write of a node, the part `staged` in front of it: which is counted first, and so done first.
-- The transaction holds locks from here on: a process that is paused now must not keep others out for ever.
own AS ({own_root}),
{put_rows}, stored AS (
{put_checkpoint}
)
SELECT (SELECT count(*) FROM staged), EXISTS (SELECT FROM stored),
       set_config('idle_in_transaction_session_timeout', '60s', true)

-- name: put_nested
WITH own AS ({own_nested}),
{put}

-- name: kept
-- What the results rest on, for guards and runs that are validated as a whole, one row for each task.
-- $23 of a subgraph: the checkpoint that the outermost super-step started from
-- $24-$30 namespace, checkpoint that its super-step started from, task, callers (as text), channels (as text), kind, effect
kept AS (
    INSERT INTO {schema}.provenance
        (thread_id, committed_ns, committed, root, ns, checkpoint_id, task_id, callers, channels, kind, effect)
    SELECT $1, $2, $3, CASE WHEN $2 = '' THEN COALESCE($4, '') ELSE $23::text END,
           p.ns, p.checkpoint_id, p.task_id, p.callers::text[], p.channels::text[], p.kind, p.effect
    FROM own, unnest($24::text[], $25::text[], $26::text[], $27::text[], $28::text[], $29::text[], $30::bytea[])
        AS p (ns, checkpoint_id, task_id, callers, channels, kind, effect)
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, committed) DO UPDATE
        SET kind = EXCLUDED.kind, effect = EXCLUDED.effect, channels = EXCLUDED.channels, callers = EXCLUDED.callers
)

-- name: put_root_kept
WITH own AS ({own_root}),
{kept},
{put}

-- name: put_nested_kept
WITH own AS ({own_nested}),
{kept},
{put}

-- name: put_roots
-- Checkpoints of runs on the root namespace of as many threads: of each the whole, or nothing without the commit right.
-- One row for each: $1 thread $2 id $3 parent $4 kind $5 payload $6 metadata $7 stats $8 token $9 head the run knows
-- $10,$11 where its channels begin and end in $12 channels $13 versions
-- Rows of all, with the number of the checkpoint first: $14-$19 new channel values  $20-$26 writes
WITH given AS (
    SELECT * FROM unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::text[], $5::bytea[],
                         $6::text[], $7::text[], $8::text::bigint[], $9::text::text[], $10::text::integer[],
                         $11::text::integer[]) WITH ORDINALITY
        AS g(thread_id, checkpoint_id, parent_id, kind, payload, metadata, stats, token, head, first, last, at)
), own AS (
    UPDATE {schema}.thread t SET head = g.checkpoint_id, updated_at = now()
    FROM given g
    WHERE t.thread_id = g.thread_id AND t.token = g.token AND t.head IS NOT DISTINCT FROM g.head
    RETURNING g.*
), vals AS (
    INSERT INTO {schema}.channel_value (thread_id, ns, channel, version, kind, value, base)
    SELECT own.thread_id, '', v.channel, v.version, v.kind, v.value, v.base
    FROM unnest($14::text::integer[], $15::text::text[], $16::text::text[], $17::text::text[], $18::bytea[],
                $19::text::text[])
        AS v(at, channel, version, kind, value, base) JOIN own USING (at)
    ON CONFLICT DO NOTHING
), writes AS (
    INSERT INTO {schema}.task_write (thread_id, ns, checkpoint_id, task_id, idx, task_path, channel, kind, value)
    SELECT own.thread_id, '', own.parent_id, w.task_id, w.idx, w.task_path, w.channel, w.kind, w.value
    FROM unnest($20::text::integer[], $21::text::text[], $22::text::integer[], $23::text::text[], $24::text::text[],
                $25::text::text[], $26::bytea[])
        AS w(at, task_id, idx, task_path, channel, kind, value) JOIN own USING (at)
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE
        SET task_path = EXCLUDED.task_path, channel = EXCLUDED.channel, kind = EXCLUDED.kind, value = EXCLUDED.value
)
INSERT INTO {schema}.checkpoint
    (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata, stats)
SELECT thread_id, '', checkpoint_id, parent_id, kind, payload,
       ($12::text[])[first:last], ($13::text[])[first:last], metadata::jsonb, stats::jsonb FROM own
ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE
    SET kind = EXCLUDED.kind, payload = EXCLUDED.payload, channels = EXCLUDED.channels,
        versions = EXCLUDED.versions, metadata = EXCLUDED.metadata
RETURNING thread_id

-- name: put_outside
WITH own AS ({own_outside}),
{put}

-- name: fence
-- Whoever is running the thread has lost it.
UPDATE {schema}.thread SET token = DEFAULT, worker_id = NULL, running_since = NULL WHERE thread_id = $1

-- name: fence_latest
-- As above, if the checkpoint is the latest. $1 thread $2 ns $3 checkpoint
UPDATE {schema}.thread t SET token = DEFAULT, worker_id = NULL, running_since = NULL
WHERE thread_id = $1 AND CASE WHEN $2 = '' THEN COALESCE(head, $3) = $3 ELSE NOT EXISTS (
    SELECT 1 FROM {schema}.checkpoint c WHERE c.thread_id = $1 AND c.ns = $2 AND c.checkpoint_id > $3) END
RETURNING 1

-- name: exists
SELECT EXISTS (SELECT 1 FROM {schema}.checkpoint WHERE thread_id = $1 AND ns = $2 AND checkpoint_id = $3)
