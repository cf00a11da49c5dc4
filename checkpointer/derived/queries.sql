-- Statements of derived state.

-- Taken before the snapshot of a transaction. Batches, rebuilds and declarations are one after the other; readers never wait.
-- name: lock
LOCK TABLE {schema}.derived_point IN EXCLUSIVE MODE

-- name: point
SELECT point FROM {schema}.derived_point

-- name: batch
SELECT point, partition_id, events, duplicates, quarantined, late, ignored FROM {schema}.derived_batch WHERE batch = $1

-- name: add_partitions
INSERT INTO {schema}.derived_partition (source, partition)
SELECT $1, partition FROM unnest($2::text[]) AS partition ORDER BY partition
ON CONFLICT (source, partition) DO NOTHING

-- name: partitions
SELECT id, source, partition, position, watermark FROM {schema}.derived_partition
WHERE source = $1 AND partition = ANY ($2::text[])

-- name: positions
SELECT partition, position FROM {schema}.derived_partition WHERE source = $1

-- name: aggregates
SELECT id, name, spec::text AS spec, fingerprint, status, upto, late, misfits, declared_at
FROM {schema}.derived_aggregate ORDER BY name

-- name: shapes
SELECT relation, columns FROM {schema}.derived_shape WHERE source = $1

-- name: known
SELECT place.partition_id, place.position
FROM unnest($1::int[], $2::bigint[]) AS place (partition_id, position)
WHERE EXISTS (SELECT FROM {schema}.derived_event e
              WHERE e.partition_id = place.partition_id AND e.position = place.position)
   OR EXISTS (SELECT FROM {schema}.derived_quarantine q
              WHERE q.partition_id = place.partition_id AND q.position = place.position)

-- name: ingested
SELECT place.partition_id, place.position
FROM unnest($1::int[], $2::bigint[]) AS place (partition_id, position)
WHERE EXISTS (SELECT FROM {schema}.derived_event e
              WHERE e.partition_id = place.partition_id AND e.position = place.position)

-- name: known_identities
SELECT identity FROM {schema}.derived_event WHERE identity = ANY ($1::bytea[])

-- name: clock
SELECT clock_timestamp()

-- name: insert_quarantine
INSERT INTO {schema}.derived_quarantine (partition_id, position, reason, why, format, body, watermark)
SELECT q.partition_id, q.position, q.reason, q.why, $1::jsonb, q.body, q.watermark
FROM unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[])
     AS q (partition_id, position, reason, why, body, watermark)
ON CONFLICT (partition_id, position) DO UPDATE SET reason = excluded.reason, why = excluded.why

-- name: add_numbers
INSERT INTO {schema}.derived_number AS n (aggregate_id, key, pane, count, sum)
SELECT * FROM unnest($1::int[], $2::text[], $3::timestamptz[], $4::bigint[], $5::numeric[])
ON CONFLICT (aggregate_id, key, pane) DO UPDATE SET count = n.count + excluded.count, sum = n.sum + excluded.sum

-- name: add_members
INSERT INTO {schema}.derived_member AS m (aggregate_id, key, pane, member, count)
SELECT * FROM unnest($1::int[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[])
ON CONFLICT (aggregate_id, key, pane, member) DO UPDATE SET count = m.count + excluded.count

-- name: add_lasts
INSERT INTO {schema}.derived_last AS l (aggregate_id, key, pane, at, partition_id, position, value)
SELECT a, k, p, at, i, o, v::jsonb
FROM unnest($1::int[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::int[], $6::bigint[], $7::text[])
     AS e (a, k, p, at, i, o, v)
ON CONFLICT (aggregate_id, key, pane) DO UPDATE
SET at = excluded.at, partition_id = excluded.partition_id, position = excluded.position, value = excluded.value
WHERE (l.at, l.partition_id, l.position) < (excluded.at, excluded.partition_id, excluded.position)

-- name: add_late
UPDATE {schema}.derived_aggregate a SET late = a.late + l.late
FROM unnest($1::int[], $2::bigint[]) AS l (id, late) WHERE a.id = l.id

-- name: add_shapes
INSERT INTO {schema}.derived_shape (source, relation, columns)
SELECT $1, relation, ARRAY(SELECT jsonb_array_elements_text(columns::jsonb)) FROM unnest($2::text[], $3::text[]) AS s (relation, columns)
ON CONFLICT (source, relation) DO UPDATE SET columns = excluded.columns

-- name: move_on
UPDATE {schema}.derived_partition p
SET position = greatest(p.position, b.position), watermark = greatest(p.watermark, b.watermark), ended = false,
    events = p.events + b.events, duplicates = p.duplicates + b.duplicates, late = p.late + b.late,
    ignored = p.ignored + b.ignored, changed_at = now()
FROM unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::int[], $5::int[], $6::int[], $7::int[])
     AS b (id, position, watermark, events, duplicates, late, ignored)
WHERE p.id = b.id

-- name: insert_batch
INSERT INTO {schema}.derived_batch (point, partition_id, batch, events, duplicates, quarantined, late, ignored)
SELECT $1, b.partition_id, $2, b.events, b.duplicates, b.quarantined, b.late, b.ignored
FROM unnest($3::int[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[])
     AS b (partition_id, events, duplicates, quarantined, late, ignored)

-- name: next_point
UPDATE {schema}.derived_point SET point = $1

-- name: end_partitions
UPDATE {schema}.derived_partition SET ended = true
WHERE source = $1 AND partition = ANY ($2::text[]) AND NOT ended

-- -- declarations

-- name: insert_aggregate
INSERT INTO {schema}.derived_aggregate (name, spec, fingerprint, window_us, step_us, status)
VALUES ($1, $2::jsonb, $3, $4, $5, $6)

-- name: any_event
SELECT EXISTS (SELECT FROM {schema}.derived_event)

-- name: declare_anew
UPDATE {schema}.derived_aggregate
SET spec = $2::jsonb, fingerprint = $3, window_us = $4, step_us = $5, status = 'outdated', declared_at = now()
WHERE name = $1

-- name: redescribe
UPDATE {schema}.derived_aggregate SET spec = $2::jsonb WHERE name = $1

-- name: empty_number
DELETE FROM {schema}.derived_number
WHERE ctid = ANY (ARRAY(SELECT ctid FROM {schema}.derived_number WHERE aggregate_id = $1 LIMIT $2))

-- name: empty_member
DELETE FROM {schema}.derived_member
WHERE ctid = ANY (ARRAY(SELECT ctid FROM {schema}.derived_member WHERE aggregate_id = $1 LIMIT $2))

-- name: empty_last
DELETE FROM {schema}.derived_last
WHERE ctid = ANY (ARRAY(SELECT ctid FROM {schema}.derived_last WHERE aggregate_id = $1 LIMIT $2))

-- name: begin_building
UPDATE {schema}.derived_aggregate SET status = 'building', upto = -1, late = 0, misfits = 0 WHERE id = $1

-- name: built
UPDATE {schema}.derived_aggregate SET upto = $2, misfits = misfits + $3, status = $4 WHERE id = $1

-- name: drop_aggregate
DELETE FROM {schema}.derived_aggregate WHERE id = $1

-- The points after one that have no more than so many events together, or the first one that has events.
-- name: next_chunk
SELECT max(point) FROM (
    SELECT point, sum(sum(events)) OVER (ORDER BY point) AS total, row_number() OVER (ORDER BY point) AS nth
    FROM (SELECT point, events FROM {schema}.derived_batch WHERE point > $1 ORDER BY point LIMIT $2::int) b
    GROUP BY point
) s WHERE total <= $2::int OR nth = 1

-- name: events_between
SELECT partition_id, position, type, at, behind, payload::text AS payload FROM {schema}.derived_event
WHERE point > $1 AND point <= $2 AND type = ANY ($3::text[])

-- -- quarantine

-- name: quarantine
SELECT p.source, p.partition, q.position, q.reason, q.why, q.body, q.format::text AS format, q.watermark,
       q.quarantined_at, q.partition_id
FROM {schema}.derived_quarantine q JOIN {schema}.derived_partition p ON p.id = q.partition_id
WHERE (p.source, p.partition, q.position) > ($1, $2, $3)
ORDER BY p.source, p.partition, q.position LIMIT $4

-- name: release
DELETE FROM {schema}.derived_quarantine q USING unnest($1::int[], $2::bigint[]) AS r (partition_id, position)
WHERE q.partition_id = r.partition_id AND q.position = r.position

-- name: late_events
SELECT p.source, p.partition, e.position, e.type, e.at, e.behind, e.payload::text AS payload
FROM {schema}.derived_event e JOIN {schema}.derived_partition p ON p.id = e.partition_id
WHERE e.behind > $1 AND e.type = ANY ($2::text[]) ORDER BY p.source, p.partition, e.position LIMIT $3

-- -- status

-- name: status
SELECT p.source, p.partition, p.position, p.watermark, p.ended, p.events, p.duplicates, p.late, p.ignored, p.changed_at,
       (SELECT count(*) FROM {schema}.derived_quarantine q WHERE q.partition_id = p.id) AS quarantined,
       COALESCE((SELECT sum(b.events) / greatest(1, extract(epoch FROM now() - min(b.committed_at)))
                 FROM {schema}.derived_batch b
                 WHERE b.partition_id = p.id AND b.committed_at > now() - interval '60 s'), 0)::float8 AS rate
FROM {schema}.derived_partition p ORDER BY p.source, p.partition
