-- For clusters of 0.1.0, in which flows connected as the superuser: makes the role that they connect as now, and gives
-- it all that the superuser made in this database. Run by the superuser, in one transaction: the role is there exactly
-- when all of it has happened. psql replaces :"role" and :"database".

CREATE EXTENSION IF NOT EXISTS vector;
CREATE ROLE :"role" LOGIN CREATEDB;
ALTER DATABASE :"database" OWNER TO :"role";

-- Objects below 16384 are the server's own. What belongs to an extension stays; a column's sequence goes with its table.
SELECT format(
    'ALTER %s %s OWNER TO %I',
    CASE class WHEN 'pg_proc'::regclass THEN 'ROUTINE' WHEN 'pg_type'::regclass THEN 'TYPE'
               WHEN 'pg_statistic_ext'::regclass THEN 'STATISTICS' ELSE upper(i.type) END,
    i.identity, :'role')
FROM (
    SELECT 'pg_namespace'::regclass AS class, oid, nspowner AS owner FROM pg_namespace
    UNION ALL
    SELECT 'pg_class'::regclass, oid, relowner FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE typtype IN ('e', 'd', 'r') OR c.relkind = 'c'
    UNION ALL
    SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
    UNION ALL
    SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
) made, pg_identify_object(class, oid, 0) i
WHERE owner = current_user::regrole AND oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = oid
                  AND (d.deptype = 'e' OR i.type = 'sequence' AND d.deptype IN ('a', 'i')))
\gexec
