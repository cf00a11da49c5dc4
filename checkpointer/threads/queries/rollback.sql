-- Taking back what an input has done to its thread. `{schema}` is the quoted schema. Each is one round trip.

-- name: lock
-- A thread, kept from every writer until the transaction ends. $1 thread
SELECT head, input_head, worker_id FROM {schema}.thread WHERE thread_id = $1 FOR UPDATE

-- name: since_input
-- Of the outermost graph, from the head back to where the latest input came in: at the head of that time, or with a
-- checkpoint of its own. $1 thread $2 the head of that time, or null
WITH RECURSIVE way AS (
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' = 'input' AS begins,
           c.metadata ->> 'source' = 'fork' AS forks, 1 AS depth
    FROM {schema}.thread t JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = t.head
    WHERE t.thread_id = $1 AND t.head IS DISTINCT FROM $2
    UNION ALL
    SELECT c.checkpoint_id, c.parent_id, c.metadata ->> 'source' = 'input', c.metadata ->> 'source' = 'fork', way.depth + 1
    FROM way JOIN {schema}.checkpoint c ON c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = way.parent_id
    WHERE NOT way.begins AND way.parent_id IS DISTINCT FROM $2
)
SELECT checkpoint_id, parent_id, begins, forks FROM way ORDER BY depth

-- name: with_nested
-- These and what subgraphs have made in the super-steps from them, with the domain writes that each has committed.
-- $1 thread $2 checkpoints of the outermost graph
SELECT ns, checkpoint_id, COALESCE((stats ->> 'writes')::integer, 0) AS writes FROM {schema}.checkpoint
WHERE thread_id = $1 AND ns = '' AND checkpoint_id = ANY ($2::text[])
   OR thread_id = $1 AND ns <> '' AND metadata -> 'parents' ->> '' = ANY ($2::text[])

-- name: back_to
-- After they were deleted: the thread is where it was, and of no version that is known for sure.
-- $1 thread $2 the head of that time, or null for what is the head now $3 what stands for no structure
UPDATE {schema}.thread t
SET head = COALESCE((SELECT checkpoint_id FROM {schema}.checkpoint c
                     WHERE c.thread_id = $1 AND c.ns = '' AND c.checkpoint_id = $2), t.head),
    structure = CASE WHEN t.structure IS NOT NULL THEN $3 END, input_head = NULL
WHERE thread_id = $1 RETURNING head

-- name: forget_input
-- What the input has written to delta channels. $1 thread $2 the checkpoint it came in at $3 its task
DELETE FROM {schema}.task_write WHERE thread_id = $1 AND ns = '' AND checkpoint_id = $2 AND task_id = $3
