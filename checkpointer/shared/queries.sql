-- Shared values. `{schema}` is the quoted schema.

-- name: read
-- What a super-step reads of a value, and nothing else: an update that leaves it as it was changes no fact.
-- $1 name $2 key
SELECT form, kind, value FROM {schema}.shared_value WHERE name = $1 AND key = $2

-- name: lock
-- A value that this transaction is going to change. Another one that has changed it since the snapshot was taken makes
-- this fail (40001); one that is about to is waited for, and then makes it fail. $1 name $2 key
SELECT version, form, kind, value FROM {schema}.shared_value WHERE name = $1 AND key = $2 FOR UPDATE

-- name: store
-- $1 name $2 key $3 version $4 form $5 kind $6 value
INSERT INTO {schema}.shared_value AS v (name, key, version, form, kind, value) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name, key) DO UPDATE
    SET version = EXCLUDED.version, form = EXCLUDED.form, kind = EXCLUDED.kind, value = EXCLUDED.value

-- name: store_logged
-- The same, with the updates that led there. These come after it: who meets another one meets it at the value.
-- $7 thread $8 ns $9 checkpoint $10 task $11 node $12-$15 one for each update: version, resolved, kind, value
WITH stored AS ({store} RETURNING 1)
INSERT INTO {schema}.shared_update
    (name, key, version, form, thread_id, ns, checkpoint_id, task_id, node, resolved, kind, value)
SELECT $1, $2, u.version, $4, $7, $8, $9, $10, $11, u.resolved, u.kind, u.value
FROM stored, unnest($12::text::bigint[], $13::text::integer[], $14::text::text[], $15::bytea[])
    AS u(version, resolved, kind, value)

-- name: history
-- $1 name $2 key $3 after this version $4 limit
SELECT version, form, thread_id, ns, checkpoint_id, task_id, node, resolved, kind, value, committed_at
FROM {schema}.shared_update WHERE name = $1 AND key = $2 AND version > $3 ORDER BY version LIMIT $4

-- name: keys
-- $1 name $2 after this key $3 limit
SELECT key, version FROM {schema}.shared_value WHERE name = $1 AND key > $2 ORDER BY key LIMIT $3

-- name: forget
-- The value first: whoever reduces into it meanwhile meets this there. $1 name $2 key
WITH gone AS (DELETE FROM {schema}.shared_value WHERE name = $1 AND key = $2 RETURNING 1),
     updates AS (DELETE FROM {schema}.shared_update WHERE name = $1 AND key = $2)
SELECT EXISTS (SELECT FROM gone)
