-- What calls of language models cost, apart from the answers that are remembered: an answer is forgotten when its task
-- fails, so that it is not repeated for ever, but what was paid for it stays paid.

-- One row is one call made in the super-step that started from `checkpoint_id`, answered or not; rows are never changed.
-- `id` is the caller's, so that an insert that is repeated after a lost connection counts once. `usd` is null where no
-- price is known. `offline`: no model was asked. `route` is null for models that are not routed, and in copies of a
-- thread, which have cost their route nothing. `record` is what else is known of the call.
CREATE TABLE {schema}.model_call (
    id            uuid PRIMARY KEY,
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    attempt       integer NOT NULL,
    node          text NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('answered', 'failed')),
    model         text,
    offline       boolean NOT NULL,
    input_tokens  bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    usd           double precision,
    route         text,
    record        jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX model_call_of_step ON {schema}.model_call (thread_id, ns, checkpoint_id);

-- Budgets of routes are asked before every call: from the index alone.
CREATE INDEX model_call_of_route ON {schema}.model_call (route, created_at)
    INCLUDE (input_tokens, output_tokens, usd) WHERE route IS NOT NULL;

-- The node of an older call is not known.
INSERT INTO {schema}.model_call (id, thread_id, ns, checkpoint_id, task_id, attempt, node, outcome, model, offline,
                                 input_tokens, output_tokens, created_at)
SELECT gen_random_uuid(), thread_id, ns, checkpoint_id, task_id, attempt, '?', 'answered', model,
       model IS NOT DISTINCT FROM 'offline', input_tokens, output_tokens, created_at
FROM {schema}.llm_call;

-- From here on `llm_call` is the memo only. Its columns about cost stay, unused: workers of the release before, which
-- may still be running, write them.
