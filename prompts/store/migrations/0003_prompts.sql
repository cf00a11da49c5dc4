-- Prompts: numbered versions that never change, labels that point at versions, and the log of every move of a label.

-- `digest` is the SHA-256 of the canonical JSON of `content`, which is all that a model ever sees of a version. Golden
-- cases and the description say something about it, and may be replaced.
CREATE TABLE {schema}.prompt_version (
    name        text COLLATE "C" NOT NULL,
    version     integer NOT NULL CHECK (version >= 1),
    digest      text COLLATE "C" NOT NULL,
    content     jsonb NOT NULL,
    cases       jsonb NOT NULL DEFAULT '[]',
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
);

-- `weight` is the share of threads, from 0 to 1, that get the label `canary` when they ask for `production`.
CREATE TABLE {schema}.prompt_label (
    name     text COLLATE "C" NOT NULL,
    label    text COLLATE "C" NOT NULL,
    version  integer NOT NULL,
    weight   double precision CHECK (weight >= 0 AND weight <= 1),
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, label),
    FOREIGN KEY (name, version) REFERENCES {schema}.prompt_version (name, version)
);

-- What rollback goes back by. A rollback is a move too; `undoes` names the move it took back.
CREATE TABLE {schema}.prompt_move (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text COLLATE "C" NOT NULL,
    label        text COLLATE "C" NOT NULL,
    from_version integer,
    from_weight  double precision,
    to_version   integer NOT NULL,
    to_weight    double precision,
    undoes       bigint,
    moved_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX prompt_move_of_label ON {schema}.prompt_move (name, label, id);
