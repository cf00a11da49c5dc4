-- What is measured: windows of time over super-steps and calls, conflicts by key, and flows that decided again.

-- By the database's clock, which is also when the snapshot was taken that a super-step committed in.
CREATE INDEX checkpoint_of_time ON {schema}.checkpoint (created_at);
CREATE INDEX model_call_of_time ON {schema}.model_call (created_at);

-- By key, how many attempts came to nothing because what they had read of it had moved.
ALTER TABLE {schema}.step_attempt ADD COLUMN conflicts jsonb NOT NULL DEFAULT '{}';

-- One row is one flow that was asked to decide again on reconciled state. `checkpoint_id` is the decision that it was
-- compared with; `channels` are those that came out otherwise.
CREATE TABLE {schema}.reconciliation (
    thread_id     text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    graph         text,
    differs       boolean NOT NULL,
    channels      text[] NOT NULL,
    llm_paid      integer NOT NULL,
    llm_reused    integer NOT NULL,
    decided_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (thread_id, checkpoint_id, decided_at)
);

CREATE INDEX reconciliation_of_time ON {schema}.reconciliation (decided_at);
