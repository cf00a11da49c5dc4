-- Runs that wait for a worker, and how they ended. One row is one run of a graph on a thread.
-- `request` is what it is entered with. `delivery` counts how often it was given to a worker and names the latest time:
-- whoever was given it before may store nothing of it any more. `due_at` is when it may start; `lease_until` when others
-- may take it from the worker that has it, unless that renews it; `left_by` are those it was taken from. `failures` counts
-- ends that were worth another try.
CREATE TABLE {schema}.queued_run (
    run_id      uuid PRIMARY KEY,
    nr          bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    thread_id   text COLLATE "C" NOT NULL,
    graph       text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL DEFAULT '',
    key         text COLLATE "C",
    priority    integer NOT NULL DEFAULT 0,
    state       text NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'running', 'completed', 'interrupted', 'failed')),
    kind        text NOT NULL,
    request     bytea NOT NULL,
    delivery    integer NOT NULL DEFAULT 0,
    failures    integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),
    worker_id   uuid,
    lease_until timestamptz,
    left_by     uuid[] NOT NULL DEFAULT '{}',
    error       text,
    schedule    text COLLATE "C",
    tick        timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    ended_at    timestamptz
) WITH (fillfactor = 70);

-- What the indexes promise: one run of a thread at a time, and one run of each tick of a schedule.
CREATE UNIQUE INDEX queued_run_of_thread ON {schema}.queued_run (thread_id) WHERE state = 'running';
CREATE UNIQUE INDEX queued_run_of_tick ON {schema}.queued_run (schedule, tick);
CREATE INDEX queued_run_waiting ON {schema}.queued_run (tenant, priority DESC, nr) WHERE state = 'queued';
CREATE INDEX queued_run_waiting_thread ON {schema}.queued_run (thread_id, nr) WHERE state = 'queued';
CREATE INDEX queued_run_waiting_graph ON {schema}.queued_run (graph) WHERE state = 'queued';
CREATE INDEX queued_run_leases ON {schema}.queued_run (lease_until) WHERE state = 'running';
CREATE INDEX queued_run_threads ON {schema}.queued_run (thread_id);

-- Workers that give runs out among themselves do so one after the other: each updates this row first. `served` counts
-- what was given out.
CREATE TABLE {schema}.run_gate (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    served bigint NOT NULL DEFAULT 0
);
INSERT INTO {schema}.run_gate DEFAULT VALUES;

-- When each tenant was last given a run, as `run_gate.served` counts.
CREATE TABLE {schema}.run_tenant (
    tenant text COLLATE "C" PRIMARY KEY,
    served bigint NOT NULL
);

-- How many runs of a graph, or with a key, may run at once. '*' is each graph, or each key, without a row of its own.
CREATE TABLE {schema}.run_limit (
    scope text NOT NULL CHECK (scope IN ('graph', 'key')),
    name  text COLLATE "C" NOT NULL,
    most  integer NOT NULL CHECK (most > 0),
    PRIMARY KEY (scope, name)
);

-- Workers that take runs, with the graphs that they have. One that ends well deletes its row.
CREATE TABLE {schema}.run_worker (
    worker_id   uuid PRIMARY KEY,
    host        text NOT NULL,
    pid         bigint NOT NULL,
    graphs      text[] NOT NULL,
    concurrency integer NOT NULL,
    seen_until  timestamptz NOT NULL
);

-- What is submitted again and again. `next_tick` is the next time for which no run was submitted yet.
CREATE TABLE {schema}.run_schedule (
    name       text COLLATE "C" PRIMARY KEY,
    graph      text COLLATE "C" NOT NULL,
    expression text NOT NULL,
    timezone   text NOT NULL,
    catch_up   text NOT NULL CHECK (catch_up IN ('none', 'one', 'all')),
    tenant     text COLLATE "C" NOT NULL,
    kind       text NOT NULL,
    request    bytea NOT NULL,
    next_tick  timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
