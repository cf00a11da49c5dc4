-- Who runs a thread right now: for those who want to ask before they take it over. Fencing needs none of this.

-- One row a process (more exactly, a saver) that runs threads. `machine` tells machines apart, and process spaces on one;
-- `pid` and `mark` tell processes of one machine apart, one that got the number of another included. `seen_at` is renewed
-- every few seconds while it runs threads. A process that ends well deletes its row.
CREATE TABLE {schema}.worker (
    worker_id uuid PRIMARY KEY,
    host      text NOT NULL,
    machine   text NOT NULL,
    pid       bigint NOT NULL,
    mark      text NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now()
);

-- Null unless the owner of the thread is a run that will say when it is over.
ALTER TABLE {schema}.thread ADD COLUMN worker_id uuid, ADD COLUMN running_since timestamptz;
