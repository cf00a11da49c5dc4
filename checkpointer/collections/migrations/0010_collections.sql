-- Collections: texts with embeddings. Each has a table of its own, `collection_<id>`, made when the collection is: only
-- then is its type of vector known, and only that needs pgvector. What all of them have in common is here.

-- `metadata_schema` names the keys that metadata may have, with their types; null allows any. `language` is the
-- configuration of full-text search.
CREATE TABLE {schema}.collection (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text COLLATE "C" NOT NULL UNIQUE,
    dimensions      integer NOT NULL CHECK (dimensions >= 1),
    precision       text COLLATE "C" NOT NULL CHECK (precision IN ('full', 'half')),
    language        text COLLATE "C" NOT NULL,
    metadata_schema json,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Which life of the server this is, as far as numbers of transactions go: they count on from one start to the next, but
-- after a crash the latest may be given out again, and another server counts by itself. A crash empties a table that is
-- not logged; a row that was restored from a dump is of another transaction than it says (its `xmin`).
CREATE UNLOGGED TABLE {schema}.collection_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch     uuid NOT NULL DEFAULT gen_random_uuid(),
    made_in   xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- What a search returns.
CREATE TYPE {schema}.neighbour AS (
    id       text,
    content  text,
    metadata jsonb,
    distance double precision
);

-- A row's `revision` is the transaction that has written it last: the outermost one, since a snapshot names no others.
CREATE FUNCTION {schema}.collection_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := pg_catalog.pg_current_xact_id();
    RETURN NEW;
END $$;
