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
