-- Statements of replication from another PostgreSQL.

-- At the source.
-- name: wal_level
SHOW wal_level

-- name: columns
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       COALESCE(a.attnum = ANY (i.indkey), false) AS key
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum

-- name: has_publication
SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)

-- Here.
-- name: is_new_enough
SELECT current_setting('server_version_num')::int >= 150000

-- name: subscribe
SELECT format('CREATE SUBSCRIPTION %I CONNECTION %L PUBLICATION %I WITH (disable_on_error = true)', $1::text, $2::text, $1::text)

-- name: has_subscription
SELECT EXISTS (SELECT FROM pg_subscription
               WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))

-- name: tables_of
SELECT c.oid::regclass::text AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = $1 ORDER BY 1

-- name: forget_shapes
DELETE FROM {schema}.derived_shape WHERE source = $1

-- name: replicas
SELECT s.subname AS name, s.subenabled AS enabled,
       ARRAY(SELECT r.srrelid::regclass::text FROM pg_subscription_rel r WHERE r.srsubid = s.oid ORDER BY 1) AS tables,
       (SELECT count(*) FROM {schema}.derived_inbox i WHERE i.source = substr(s.subname, length('superstep_') + 1)) AS waiting,
       COALESCE((SELECT e.apply_error_count + e.sync_error_count FROM pg_stat_subscription_stats e WHERE e.subid = s.oid), 0)
           AS errors
FROM pg_subscription s
WHERE s.subname LIKE 'superstep\_%' AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1

-- name: inbox
SELECT seq, body FROM {schema}.derived_inbox WHERE source = $1 AND seq <> ALL ($2::bigint[]) ORDER BY seq LIMIT $3

-- name: taken
DELETE FROM {schema}.derived_inbox WHERE source = $1 AND seq = ANY ($2::bigint[])
