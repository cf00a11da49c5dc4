-- Effects: what a commit has decided is to happen outside of it.

-- The release of PgQueuer that made the tables of the queue (queue_*), which are made by its own statements.
CREATE TABLE {schema}.queue_release (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    release text NOT NULL
);

-- The outbox: one row for each effect that was committed. `id` is its identity, the digest of thread, ns, checkpoint_id,
-- task_id and nth. nodes, node, topic and ordinal are its place on its branch of the thread: its number among those of its
-- topic from there. Who repeats it on another branch and keeps this one has a row of its own, which stands_for it.
-- `kind` and `payload`: the document. `attempts` counts since the effect was put or retried. A worker that delivers it has
-- claimed it until then; another one takes it over after that. `failure`: what the latest try ended with.
CREATE TABLE {schema}.effect (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text COLLATE "C" NOT NULL UNIQUE,
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    nth           integer NOT NULL,
    root_id       text COLLATE "C" NOT NULL,
    nodes         text COLLATE "C" NOT NULL,
    node          text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    key           text COLLATE "C",
    ordinal       integer NOT NULL,
    state         text NOT NULL CHECK (state IN
                  ('waiting', 'delivered', 'dead', 'dropped', 'kept', 'undoing', 'undone', 'stuck')),
    stands_for    text COLLATE "C",
    kind          text NOT NULL,
    payload       bytea NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    claimed_until timestamptz,
    failure       text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CREATE INDEX effect_by_place ON {schema}.effect (thread_id, topic, node, nodes, ordinal);
CREATE INDEX effect_in_line ON {schema}.effect (topic, key, seq)
    WHERE key IS NOT NULL AND state IN ('waiting', 'dead');
CREATE INDEX effect_open ON {schema}.effect (seq) WHERE state IN ('waiting', 'dead', 'undoing', 'stuck');
