-- Tasks of a super-step whose subgraphs commit writes, by id: they come before the others in its order.
ALTER TABLE {schema}.step_attempt ADD COLUMN comes_first text[] NOT NULL DEFAULT '{}';

-- Whether it took turns, and the milliseconds it has waited for them.
ALTER TABLE {schema}.step_attempt ADD COLUMN escalated boolean NOT NULL DEFAULT false;
ALTER TABLE {schema}.step_attempt ADD COLUMN waited_ms double precision NOT NULL DEFAULT 0;

-- Names the latest claim of a thread to the caller that made it, who goes on after a conflict only if nobody else has
-- claimed the thread since, and does not mistake a claim whose answer was lost for somebody else's.
ALTER TABLE {schema}.thread ADD COLUMN claim_id uuid;

-- Who waits for a turn on a key (`turns`). A hint that nothing correct depends on, so it need not survive a crash.
-- queue: tickets, first come first served; the first one has the turn. beat: counts on while that one's process lives.
CREATE UNLOGGED TABLE {schema}.turn (
    name  bytea PRIMARY KEY,
    queue text[] NOT NULL,
    beat  bigint NOT NULL
) WITH (fillfactor = 50);

-- Lists of threads, the one that changed last first. `updated_at` is another with every checkpoint; an index on it would get
-- an entry each time, and the table's other indexes with it, since such an update is not HOT. The ten seconds that it
-- lies in change rarely, and have the same order.
ALTER TABLE {schema}.thread ADD COLUMN changed_in timestamptz
    GENERATED ALWAYS AS (date_bin('10 seconds', updated_at, '2000-01-01 00:00+00')) STORED;
CREATE INDEX thread_changed ON {schema}.thread (changed_in);

-- Lists of super-steps, and how many there are: from the index alone.
CREATE INDEX checkpoint_of_step ON {schema}.checkpoint (thread_id, checkpoint_id) WHERE stats IS NOT NULL;

-- Lists of checkpoints of all threads. An expression, lest the newest checkpoint of one thread be looked for here, among all
-- that are newer: to a planner that looks cheap.
CREATE INDEX checkpoint_by_id ON {schema}.checkpoint ((checkpoint_id || ''), thread_id, ns);

-- Checkpoints of runs that servers have given an id.
CREATE INDEX checkpoint_of_run ON {schema}.checkpoint ((metadata ->> 'run_id')) WHERE metadata ->> 'run_id' IS NOT NULL;

-- What a run has cost is found by where it began, whatever the namespace.
CREATE INDEX model_call_of_run ON {schema}.model_call (thread_id, checkpoint_id, ns);
DROP INDEX {schema}.model_call_of_step;
