-- State that all threads share: values that flows reduce into, and what they reduced.

-- One row for each value that was ever written to. `version` counts its updates. `form` is the version of the declaration
-- that the value was stored by. `kind` and `value` are null while no update has made a value. Room is left in the pages,
-- so that an update stays in its page and touches no index.
CREATE TABLE {schema}.shared_value (
    name    text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    form    integer NOT NULL,
    kind    text,
    value   bytea,
    PRIMARY KEY (name, key)
) WITH (fillfactor = 70);

-- One row for each update, by the version that it made. `resolved` counts the conflicts that the reducer resolved by it.
-- Ids of the super-step are empty for an update from outside of any.
CREATE TABLE {schema}.shared_update (
    name          text COLLATE "C" NOT NULL,
    key           text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    form          integer NOT NULL,
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    node          text NOT NULL,
    resolved      integer NOT NULL,
    kind          text NOT NULL,
    value         bytea NOT NULL,
    committed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, key, version)
);
