-- Derived state: events that were ingested exactly once, and aggregates that are maintained in the same transactions.

-- The ingestion point: how many batches are committed. One row. Every batch locks the table before its snapshot, so points
-- are given in the order of commits, and whoever sees a point sees all batches up to it.
CREATE TABLE {schema}.derived_point (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    point bigint NOT NULL DEFAULT 0
);
INSERT INTO {schema}.derived_point DEFAULT VALUES;

-- Where events come from. position: the greatest offset that was ingested, to go on from; watermark: the greatest event
-- time; ended: its source has been read to its end.
CREATE TABLE {schema}.derived_partition (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text COLLATE "C" NOT NULL,
    partition  text COLLATE "C" NOT NULL,
    position   bigint NOT NULL DEFAULT -1,
    watermark  timestamptz,
    ended      boolean NOT NULL DEFAULT false,
    events     bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    late       bigint NOT NULL DEFAULT 0,
    ignored    bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, partition)
);

-- What one batch brought of one partition. batch: its random name, by which a COMMIT whose answer was lost is looked up.
CREATE TABLE {schema}.derived_batch (
    point        bigint NOT NULL,
    partition_id integer NOT NULL REFERENCES {schema}.derived_partition (id),
    batch        uuid NOT NULL,
    events       integer NOT NULL,
    duplicates   integer NOT NULL,
    quarantined  integer NOT NULL,
    late         integer NOT NULL,
    ignored      integer NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (point, partition_id)
);
CREATE INDEX derived_batch_by_name ON {schema}.derived_batch (batch);
CREATE INDEX derived_batch_by_time ON {schema}.derived_batch (committed_at);

-- Events, kept to rebuild aggregates from. behind: how far behind its partition's watermark it came; identity: digest of the
-- event's own id within its source, where it has one.
CREATE TABLE {schema}.derived_event (
    partition_id integer NOT NULL REFERENCES {schema}.derived_partition (id),
    position     bigint NOT NULL,
    point        bigint NOT NULL,
    type         text COLLATE "C" NOT NULL,
    at           timestamptz NOT NULL,
    behind       interval NOT NULL,
    identity     bytea,
    payload      jsonb NOT NULL,
    PRIMARY KEY (partition_id, position)
);
CREATE UNIQUE INDEX derived_event_by_identity ON {schema}.derived_event (identity) WHERE identity IS NOT NULL;
CREATE INDEX derived_event_behind ON {schema}.derived_event (behind) WHERE behind > '0';
-- Events are stored in the order of points, so a few bytes for every range of pages find them.
CREATE INDEX derived_event_by_point ON {schema}.derived_event USING brin (point) WITH (pages_per_range = 16);

-- What could not be ingested, with why. watermark: that of its partition when it came, by which a replay tells how late it was.
CREATE TABLE {schema}.derived_quarantine (
    partition_id integer NOT NULL REFERENCES {schema}.derived_partition (id),
    position     bigint NOT NULL,
    reason       text NOT NULL,
    why          text NOT NULL,
    format       jsonb NOT NULL,
    body         bytea NOT NULL,
    watermark    timestamptz,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition_id, position)
);

-- Columns of a source's tables as they were first seen, or accepted since.
CREATE TABLE {schema}.derived_shape (
    source   text COLLATE "C" NOT NULL,
    relation text COLLATE "C" NOT NULL,
    columns  text[] NOT NULL,
    PRIMARY KEY (source, relation)
);

-- Declarations. status ready: maintained and read; outdated: declared otherwise than it was built, neither maintained nor
-- read; building: built up to the point `upto`, or being emptied before that (-1). window_us, step_us: lengths in microseconds; none for all time.
CREATE TABLE {schema}.derived_aggregate (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE,
    spec        jsonb NOT NULL,
    fingerprint text NOT NULL,
    status      text NOT NULL CHECK (status IN ('ready', 'outdated', 'building')),
    upto        bigint NOT NULL DEFAULT 0,
    late        bigint NOT NULL DEFAULT 0,
    misfits     bigint NOT NULL DEFAULT 0,
    window_us   bigint,
    step_us     bigint,
    declared_at timestamptz NOT NULL DEFAULT now()
);

-- For count, sum and avg: of one pane (all time is one pane).
CREATE TABLE {schema}.derived_number (
    aggregate_id integer NOT NULL REFERENCES {schema}.derived_aggregate (id),
    key          text COLLATE "C" NOT NULL,
    pane         timestamptz NOT NULL,
    count        bigint NOT NULL,
    sum          numeric NOT NULL,
    PRIMARY KEY (aggregate_id, key, pane)
) WITH (fillfactor = 80);

-- For distinct and top: how often each value was there. member: the value as canonical JSON.
CREATE TABLE {schema}.derived_member (
    aggregate_id integer NOT NULL REFERENCES {schema}.derived_aggregate (id),
    key          text COLLATE "C" NOT NULL,
    pane         timestamptz NOT NULL,
    member       text COLLATE "C" NOT NULL,
    count        bigint NOT NULL,
    PRIMARY KEY (aggregate_id, key, pane, member)
) WITH (fillfactor = 80);

-- For last: the value of the latest event time; of two events at one moment, that of the later partition and offset.
CREATE TABLE {schema}.derived_last (
    aggregate_id integer NOT NULL REFERENCES {schema}.derived_aggregate (id),
    key          text COLLATE "C" NOT NULL,
    pane         timestamptz NOT NULL,
    at           timestamptz NOT NULL,
    partition_id integer NOT NULL,
    position     bigint NOT NULL,
    value        jsonb NOT NULL,
    PRIMARY KEY (aggregate_id, key, pane)
) WITH (fillfactor = 80);

-- Changes of replicated tables, put here by their triggers in the transaction that replicates the row.
CREATE TABLE {schema}.derived_inbox (
    source   text COLLATE "C" NOT NULL,
    seq      bigint GENERATED ALWAYS AS IDENTITY,
    body     text NOT NULL,
    PRIMARY KEY (source, seq)
);

-- The trigger of replicated tables: makes an event of a row, in the form of Debezium's envelope. Its arguments: the source, and
-- the column that has the event's time, if any.
CREATE FUNCTION {schema}.derived_take_row() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
DECLARE
    old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    at timestamptz := clock_timestamp();
BEGIN
    IF TG_NARGS > 1 THEN
        at := COALESCE((COALESCE(new_row, old_row) ->> TG_ARGV[1])::timestamptz, at);
    END IF;
    INSERT INTO {schema}.derived_inbox (source, body) VALUES (TG_ARGV[0], jsonb_build_object(
        'op', CASE TG_OP WHEN 'INSERT' THEN 'c' WHEN 'UPDATE' THEN 'u' ELSE 'd' END,
        'before', old_row, 'after', new_row,
        'source', jsonb_build_object('schema', TG_TABLE_SCHEMA, 'table', TG_TABLE_NAME,
                                     'ts_ms', floor(extract(epoch FROM at) * 1000)::bigint))::text);
    RETURN NULL;
END $function$;
