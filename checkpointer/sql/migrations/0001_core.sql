-- The core: threads with their owner, checkpoints, pending writes with the facts they rest on, and paid LLM answers.
-- Identifiers that are ordered (checkpoint ids are time-ordered UUIDs) use COLLATE "C": byte order, and fast to compare.

CREATE EXTENSION IF NOT EXISTS vector;

-- One row a thread. `token` is the fencing token: whoever loads the thread to run it raises it, and every commit of a
-- run requires the value it got. `head` is the latest checkpoint of the root namespace. Both change under the same row
-- lock, which makes this row the serialization point of all writers of a thread. fillfactor leaves room for HOT updates.
CREATE TABLE {schema}.thread (
    thread_id  text COLLATE "C" PRIMARY KEY,
    token      bigint NOT NULL DEFAULT 0,
    head       text COLLATE "C",
    graph      text,
    status     text NOT NULL DEFAULT 'unfinished'
               CHECK (status IN ('unfinished', 'interrupted', 'failed', 'completed')),
    error      text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- `payload` is the checkpoint without its large channel values; those are the rows of channel_value named, pairwise, by
-- `channels` and `versions`. `stats` describes the super-step that this checkpoint ended; null for input and update.
CREATE TABLE {schema}.checkpoint (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    parent_id     text COLLATE "C",
    kind          text NOT NULL,
    payload       bytea NOT NULL,
    channels      text[] NOT NULL,
    versions      text[] NOT NULL,
    metadata      jsonb NOT NULL,
    stats         jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (thread_id, ns, checkpoint_id)
);

CREATE TABLE {schema}.channel_value (
    thread_id text COLLATE "C" NOT NULL,
    ns        text COLLATE "C" NOT NULL,
    channel   text COLLATE "C" NOT NULL,
    version   text COLLATE "C" NOT NULL,
    kind      text NOT NULL,
    value     bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, channel, version)
);

-- LangGraph's pending writes: what a task of the super-step after `checkpoint_id` produced.
CREATE TABLE {schema}.task_write (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    idx           integer NOT NULL,
    task_path     text COLLATE "C" NOT NULL DEFAULT '',
    channel       text NOT NULL,
    kind          text NOT NULL,
    value         bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id, idx)
);

-- What a saved task result rests on: its read log and its staged writes. Read again with the result on resume.
CREATE TABLE {schema}.task_effect (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    kind          text NOT NULL,
    effect        bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id)
);

-- Answers of language models, stored before the node sees them. One row is one paid call.
CREATE TABLE {schema}.llm_call (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    attempt       integer NOT NULL,
    request       bytea NOT NULL,
    nth           integer NOT NULL,
    model         text,
    input_tokens  integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    kind          text NOT NULL,
    answer        bytea,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id, attempt, request, nth)
);

-- What the attempts before the current one have cost, for super-steps that did not commit at once. `asked_again` are the
-- tasks whose question to a human was withdrawn because the facts it showed had moved.
CREATE TABLE {schema}.step_attempt (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    attempts      integer NOT NULL,
    repairs       integer NOT NULL,
    drifts        integer NOT NULL,
    llm_reused    integer NOT NULL,
    ms            double precision NOT NULL,
    asked_again   text[] NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id)
);
