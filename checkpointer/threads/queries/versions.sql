-- Versions of graphs and what threads need of them. `{schema}` is the quoted schema. Each is one round trip.

-- name: lock
-- A thread as it was run last, kept from every writer until the transaction ends. $1 thread
SELECT version, structure, head, token FROM {schema}.thread WHERE thread_id = $1 FOR UPDATE

-- name: nested
-- Where the subgraphs of a super-step stand: the latest checkpoint that each has made in it. $1 thread $2 checkpoint that the
-- super-step of the outermost graph started from
SELECT c.thread_id, {tuple_columns}
FROM (SELECT DISTINCT ON (ns) * FROM {schema}.checkpoint
      WHERE thread_id = $1 AND ns <> '' AND metadata -> 'parents' ->> '' = $2::text
      ORDER BY ns, checkpoint_id DESC) c
{value_joins}
{tuple_joins}

-- name: nested_writes
-- How many domain writes these have committed. $1 thread $2 checkpoint, as above
SELECT COALESCE(sum((stats ->> 'writes')::integer), 0) FROM {schema}.checkpoint
WHERE thread_id = $1 AND ns <> '' AND metadata -> 'parents' ->> '' = $2::text

-- name: stamp
-- $1 thread $2 version $3 structure
UPDATE {schema}.thread SET version = $2, structure = $3 WHERE thread_id = $1

-- name: cancelled
-- $1 thread
UPDATE {schema}.thread SET status = 'cancelled', error = NULL, updated_at = now() WHERE thread_id = $1
