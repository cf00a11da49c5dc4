-- Every statement of long-term memory, by name. `{schema}` is the quoted schema. Where a statement has /*when*/ or
-- /*where*/, conditions come in (`queries`): which time is read, and the filters.

-- name: get
-- $1 namespace $2 key. Nothing that a refresh changes, nor what a statement takes from the clock or from a sequence:
-- what a task reads on top of another one's staged writes must be the same when these are executed again.
SELECT namespace, key, version, value::text AS value, created_at, updated_at, ttl_minutes
FROM {schema}.memory WHERE namespace = $1::text[] AND key = $2 AND /*when*/

-- name: expiry
-- $1 namespace $2 key
SELECT expires_at FROM {schema}.memory WHERE namespace = $1::text[] AND key = $2 AND /*when*/

-- name: search
-- The latest first. $1 limit $2 offset
SELECT namespace, key, version, value::text AS value, created_at, updated_at, ttl_minutes
FROM {schema}.memory WHERE /*when*/ AND /*where*/
ORDER BY updated_at DESC, namespace, key LIMIT $1::bigint OFFSET $2::bigint

-- name: nearest
-- By the nearest of an item's vectors. All are looked at: the order is exact, and no filter makes it return fewer than
-- there are. A vector without direction has the distance NaN, which is greater than any other.
-- $1 limit $2 offset $3 vector
SELECT m.namespace, m.key, m.version, m.value::text AS value, m.created_at, m.updated_at, m.ttl_minutes,
       1 - near.distance AS score
FROM (
    SELECT v.memory_id, min(v.embedding::vector <=> (SELECT $3::text::vector)) AS distance
    FROM {schema}.memory JOIN {schema}.memory_vector v ON v.memory_id = memory.id
    WHERE /*when*/ AND /*where*/ GROUP BY v.memory_id
) AS near JOIN {schema}.memory m ON m.id = near.memory_id
WHERE near.distance <> 'NaN' ORDER BY near.distance, m.namespace, m.key LIMIT $1::bigint OFFSET $2::bigint

-- name: namespaces
-- $1 limit $2 offset $3 depth or null
SELECT DISTINCT CASE WHEN $3::integer IS NULL THEN namespace ELSE namespace[1:$3::integer] END AS namespace
FROM {schema}.memory WHERE /*when*/ AND /*where*/ ORDER BY 1 LIMIT $1::bigint OFFSET $2::bigint

-- name: versions
-- The latest first. $1 namespace $2 key
SELECT namespace, key, version, value::text AS value, valid_from,
       nullif(valid_to, 'infinity') AS valid_to, expires_at, thread_id, ns, checkpoint_id, task_id, node, facts::text AS facts
FROM {schema}.memory WHERE namespace = $1::text[] AND key = $2 ORDER BY version DESC

-- name: origins
-- Of several items, in their order. $1 namespaces, labels joined by periods $2 keys $3 versions
SELECT m.expires_at, m.thread_id, m.ns, m.checkpoint_id, m.task_id, m.node, m.facts::text AS facts
FROM unnest($1::text[], $2::text[], $3::integer[]) WITH ORDINALITY AS item (namespace, key, version, n)
LEFT JOIN {schema}.memory m
ON m.namespace = string_to_array(item.namespace, '.') AND m.key = item.key AND m.version = item.version ORDER BY item.n

-- name: has_vectors
SELECT EXISTS (SELECT FROM {schema}.memory_vector) AS has_vectors

-- -- writing

-- name: put
-- {new_version} says what the arguments are.
WITH last AS MATERIALIZED ({last}), moment AS MATERIALIZED ({moment}), {new_version}

-- name: remember_key
-- As put, unless an item with the key is there.
WITH twin AS MATERIALIZED (
    SELECT FROM {schema}.memory m WHERE m.namespace = $1::text[] AND m.key = $2 AND {alive}
),
last AS MATERIALIZED ({last}),
moment AS MATERIALIZED ({moment} WHERE NOT EXISTS (SELECT FROM twin)), {new_version}

-- name: remember_near
-- As put, unless an item with the key is there, or one that says the same: near each of the new vectors is one of its
-- own. $15 the distance up to which two vectors say the same
WITH twin AS MATERIALIZED (
    SELECT FROM {schema}.memory m WHERE m.namespace = $1::text[] AND {alive} AND (m.key = $2 OR {near})
),
last AS MATERIALIZED ({last}),
moment AS MATERIALIZED ({moment} WHERE NOT EXISTS (SELECT FROM twin)), {new_version}

-- name: twin
-- The item that `remember_near` would find: the one with the key, or else the nearest in the order of keys.
-- $1 namespace $2 key $3 vectors, as texts of arrays $4 distance
SELECT m.key FROM {schema}.memory m
WHERE m.namespace = $1::text[] AND {alive} AND (m.key = $2 OR {near_here}) ORDER BY m.key <> $2, m.key LIMIT 1

-- name: delete
-- $1 namespace $2 key
UPDATE {schema}.memory SET valid_to = greatest(clock_timestamp(), valid_from + interval '1 microsecond')
WHERE namespace = $1::text[] AND key = $2 AND valid_to = 'infinity'

-- name: forget
-- All versions. $1 namespace $2 key
DELETE FROM {schema}.memory WHERE namespace = $1::text[] AND key = $2

-- name: forget_below
-- All versions of all items in a namespace and below. $1 the first namespace $2 the first that is not below it
DELETE FROM {schema}.memory WHERE namespace >= $1::text[] AND namespace < $2::text[]

-- name: refresh
-- Whoever reads an item lets it live on. Those that read the same one must not meet: who finds its row locked leaves it
-- to the one that has it, and nobody writes what would gain less than a twentieth of its time. $1 namespace $2 key
UPDATE {schema}.memory SET expires_at = clock_timestamp() + make_interval(secs => ttl_minutes * 60)
WHERE id = (
    SELECT id FROM {schema}.memory
    WHERE namespace = $1::text[] AND key = $2 AND valid_to = 'infinity' AND expires_at > clock_timestamp()
      AND expires_at < clock_timestamp() + make_interval(secs => ttl_minutes * 57)
    FOR UPDATE SKIP LOCKED)

-- name: expire
-- Ends the time of versions that have expired. $1 how many at most
UPDATE {schema}.memory SET valid_to = greatest(expires_at, valid_from + interval '1 microsecond')
WHERE id IN (
    SELECT id FROM {schema}.memory WHERE valid_to = 'infinity' AND expires_at <= clock_timestamp()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)

-- name: prune
-- Deletes versions whose time ended long ago. $1 seconds $2 how many at most
DELETE FROM {schema}.memory WHERE id IN (
    SELECT id FROM {schema}.memory
    WHERE valid_to <> 'infinity' AND valid_to <= clock_timestamp() - make_interval(secs => $1::double precision)
    ORDER BY valid_to LIMIT $2 FOR UPDATE SKIP LOCKED)

-- -- parts

-- name: alive
m.valid_to = 'infinity' AND (m.expires_at IS NULL OR m.expires_at > clock_timestamp())

-- name: near
cardinality($6::text[]) > 0 AND NOT EXISTS (
    SELECT FROM unnest($6::text[]) AS given (embedding) WHERE NOT EXISTS (
        SELECT FROM {schema}.memory_vector v WHERE v.memory_id = m.id
          AND CASE WHEN cardinality(v.embedding) = cardinality(given.embedding::real[])
              THEN (v.embedding::vector <=> given.embedding::real[]::vector) <= $15::double precision ELSE false END))

-- name: near_here
cardinality($3::text[]) > 0 AND NOT EXISTS (
    SELECT FROM unnest($3::text[]) AS given (embedding) WHERE NOT EXISTS (
        SELECT FROM {schema}.memory_vector v WHERE v.memory_id = m.id
          AND CASE WHEN cardinality(v.embedding) = cardinality(given.embedding::real[])
              THEN (v.embedding::vector <=> given.embedding::real[]::vector) <= $4::double precision ELSE false END))

-- name: last
SELECT id, version, created_at, updated_at, valid_from, valid_to, expires_at FROM {schema}.memory
WHERE namespace = $1::text[] AND key = $2 ORDER BY version DESC LIMIT 1

-- name: moment
-- After the version before, whatever the clocks say: `at` by the server's, `said` by the one of whoever puts it.
SELECT greatest(clock_timestamp(), (SELECT valid_from + interval '1 microsecond' FROM last),
                (SELECT nullif(valid_to, 'infinity') FROM last)) AS at,
       greatest($14::timestamptz, (SELECT updated_at + interval '1 microsecond' FROM last)) AS said

-- name: new_version
-- Ends the version that counts, deletes those that are too many or too old, and adds one with its vectors. A row in its
-- way can only be one that another transaction has just inserted: with ON CONFLICT, SERIALIZABLE says so (40001) instead
-- of a unique violation, which a super-step takes for its task's fault the second time.
-- $1 namespace $2 key $3 value $4 minutes to live or null $5 fields $6 their vectors, as texts of arrays $7 seconds
-- that ended versions are kept $8 thread $9 namespace of the graph $10 checkpoint $11 task $12 node $13 facts
-- $14 the moment it was put
ended AS (
    UPDATE {schema}.memory SET valid_to = (SELECT at FROM moment)
    WHERE id = (SELECT last.id FROM last, moment WHERE last.valid_to = 'infinity') RETURNING id
),
pruned AS (
    DELETE FROM {schema}.memory old USING last, moment
    WHERE old.namespace = $1::text[] AND old.key = $2 AND old.valid_to <> 'infinity'
      AND (old.version <= last.version - 99 OR old.valid_to <= moment.at - make_interval(secs => $7::double precision))
),
added AS (
    INSERT INTO {schema}.memory (namespace, key, version, value, created_at, updated_at, valid_from, ttl_minutes,
                                 expires_at, thread_id, ns, checkpoint_id, task_id, node, facts)
    SELECT $1::text[], $2, coalesce((SELECT version FROM last), 0) + 1, $3::text::json,
           coalesce((SELECT created_at FROM last WHERE valid_to = 'infinity'
                     AND (expires_at IS NULL OR expires_at > $14::timestamptz)), moment.said),
           moment.said, moment.at, $4::double precision, moment.at + make_interval(secs => $4::double precision * 60),
           $8, $9, $10, $11, $12, $13::text::json
    FROM moment WHERE (SELECT count(*) FROM ended) >= 0
    ON CONFLICT DO NOTHING RETURNING id
)
INSERT INTO {schema}.memory_vector (memory_id, field, embedding)
SELECT added.id, given.field, given.embedding::real[]
FROM added, unnest($5::text[], $6::text[]) AS given (field, embedding)
