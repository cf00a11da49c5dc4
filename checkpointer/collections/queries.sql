-- Statements of collections. `collection_0` stands for the table of one.

-- name: find
SELECT id, name, dimensions, precision, language, metadata_schema::text AS metadata_schema
FROM {schema}.collection WHERE name = $1

-- name: all
SELECT id, name, dimensions, precision, language, metadata_schema::text AS metadata_schema,
    created_at, pg_total_relation_size(to_regclass(format('%I.%I', $1::text, 'collection_' || id))) AS bytes
FROM {schema}.collection ORDER BY name

-- name: register
INSERT INTO {schema}.collection (name, dimensions, precision, language, metadata_schema)
VALUES ($1, $2, $3, $4, $5::text::json) ON CONFLICT (name) DO NOTHING RETURNING id

-- name: unregister
DELETE FROM {schema}.collection WHERE name = $1 RETURNING id

-- Whatever is there of another life of the server gives way, see the migration.
-- name: begin_epoch
INSERT INTO {schema}.collection_epoch AS e (singleton)
SELECT true WHERE NOT EXISTS (SELECT FROM {schema}.collection_epoch WHERE xmin = made_in::xid)
ON CONFLICT (singleton) DO UPDATE SET epoch = excluded.epoch, made_in = excluded.made_in
WHERE e.xmin <> e.made_in::xid

-- name: drop_table
DROP TABLE IF EXISTS {schema}.collection_0

-- name: put_document
INSERT INTO {schema}.collection_0 AS t (id, content, metadata, embedding, source, position)
VALUES ($1, $2, $3::text::jsonb, $4::text::vector, $5, $6)
ON CONFLICT (id) DO UPDATE SET content = excluded.content, metadata = excluded.metadata,
    embedding = excluded.embedding, source = excluded.source, position = excluded.position

-- name: delete
DELETE FROM {schema}.collection_0 WHERE id = ANY ($1::text[])

-- name: delete_source
DELETE FROM {schema}.collection_0 WHERE source = $1 AND id <> ALL ($2::text[])

-- name: reposition
UPDATE {schema}.collection_0 AS t SET position = u.position FROM unnest($1::text[], $2::int[]) AS u (id, position)
WHERE t.id = u.id AND t.position IS DISTINCT FROM u.position

-- name: get
SELECT id, content, metadata, source, position FROM {schema}.collection_0 WHERE id = ANY ($1::text[]) ORDER BY id

-- name: count
SELECT count(*) FROM {schema}.collection_0

-- name: sources
SELECT source, array_agg(id ORDER BY position) AS ids FROM {schema}.collection_0 WHERE source IS NOT NULL GROUP BY source

-- name: has_rows
SELECT count(*) >= $1::int8 FROM (SELECT FROM {schema}.collection_0 LIMIT $1::int8) AS few

-- name: indexes
SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = c.relam WHERE i.indrelid = to_regclass($1) AND m.amname = 'hnsw'
