-- name: join
-- Stand in line for a key, behind all that do. Harmless when repeated. $1 name $2 ticket
INSERT INTO {schema}.turn AS t (name, queue, beat) VALUES ($1, ARRAY[$2::text], 0)
ON CONFLICT (name) DO UPDATE SET queue = CASE WHEN $2 = ANY (t.queue) THEN t.queue ELSE t.queue || $2::text END
RETURNING t.queue[1] AS head, t.beat

-- name: leave
-- The last one takes the line along. Harmless when repeated. $1 name $2 ticket
WITH gone AS (DELETE FROM {schema}.turn WHERE name = $1 AND array_remove(queue, $2::text) = '{}' RETURNING 1)
UPDATE {schema}.turn SET queue = array_remove(queue, $2::text), beat = beat + 1
WHERE name = $1 AND $2 = ANY (queue) AND NOT EXISTS (SELECT 1 FROM gone)
RETURNING queue[1] AS head, beat

-- name: beat
-- Say that the process of these turns is alive. $1 names $2 tickets
UPDATE {schema}.turn SET beat = beat + 1 WHERE name = ANY ($1::bytea[]) AND queue[1] = ANY ($2::text[])

-- name: look
-- Whose turn it is. $1 names $2 tickets of this process: those among them that are still in line
SELECT name, queue[1] AS head, beat, ARRAY(SELECT q FROM unnest(queue) AS q WHERE q = ANY ($2::text[])) AS waiting
FROM {schema}.turn WHERE name = ANY ($1::bytea[])

-- name: evict
-- Take a process out of line whose turn does not beat any more. $1 name $2 its ticket $3 the last beat seen
UPDATE {schema}.turn SET
    queue = ARRAY(SELECT q FROM unnest(queue) WITH ORDINALITY AS u (q, place)
                  WHERE split_part(q, ':', 1) <> split_part($2::text, ':', 1) ORDER BY place),
    beat = beat + 1
WHERE name = $1 AND queue[1] = $2 AND beat = $3
RETURNING queue[1] AS head, beat
