-- Long-term memory: every version of every item, and in which time it was the one that counts.

-- A version is never changed but for the end of its time: putting an item ends its latest version and adds another.
-- `valid_from` and `valid_to` are taken from the clock by the statement that is executed; the latter is infinity for the
-- version that counts now. `created_at` and `updated_at` are what whoever put it said: these are shown to readers, and a
-- statement that is executed twice, on top of the same state, must leave the same facts. `value` is json, not jsonb, so that what was put comes back as it
-- was: jsonb makes another number of 1e23. Filters cast it. Of where it comes from, `checkpoint_id` is the checkpoint
-- that the super-step started from, and `facts` what its task had read by then; all of it is null for what was put
-- outside of a super-step.
CREATE TABLE {schema}.memory (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace     text[] COLLATE "C" NOT NULL CHECK (cardinality(namespace) > 0),
    key           text COLLATE "C" NOT NULL,
    version       integer NOT NULL CHECK (version >= 1),
    value         json NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    valid_from    timestamptz NOT NULL,
    valid_to      timestamptz NOT NULL DEFAULT 'infinity',
    ttl_minutes   double precision CHECK (ttl_minutes > 0),
    expires_at    timestamptz,
    thread_id     text COLLATE "C",
    ns            text COLLATE "C",
    checkpoint_id text COLLATE "C",
    task_id       text COLLATE "C",
    node          text COLLATE "C",
    facts         json,
    UNIQUE (namespace, key, version),
    CHECK (valid_to > valid_from),
    CHECK ((ttl_minutes IS NULL) = (expires_at IS NULL))
);

-- At most one version of an item counts. Namespaces below one are a range of this index, see `namespaces.bounds`.
CREATE UNIQUE INDEX memory_now ON {schema}.memory (namespace, key) WHERE valid_to = 'infinity';
CREATE INDEX memory_expiring ON {schema}.memory (expires_at) WHERE valid_to = 'infinity' AND expires_at IS NOT NULL;
CREATE INDEX memory_past ON {schema}.memory (valid_to) WHERE valid_to <> 'infinity';

-- One row for each text of a version that is found by meaning. Numbers, not vectors: so the table is the same in a
-- database without pgvector, and one that gets it later has nothing to make up for. Searches cast them.
CREATE TABLE {schema}.memory_vector (
    memory_id bigint NOT NULL REFERENCES {schema}.memory (id) ON DELETE CASCADE,
    field     text COLLATE "C" NOT NULL,
    embedding real[] NOT NULL,
    PRIMARY KEY (memory_id, field)
);
