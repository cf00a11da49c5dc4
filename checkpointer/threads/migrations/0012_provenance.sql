-- What the results of tasks rest on, kept when their super-steps are committed: for guards, and for runs whose later commits
-- validate what the earlier ones rest on (isolation "flow"). Of other processes' and graphs' runs there is nothing here.
-- A task has a row for its own commit, and one for each later commit whose writes have changed what its facts say. Which of
-- them counts depends on where the thread stands: the latest whose commit is on the way there.
CREATE TABLE {schema}.provenance (
    thread_id     text COLLATE "C" NOT NULL,
    ns            text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,    -- that the task's super-step started from
    task_id       text COLLATE "C" NOT NULL,
    committed_ns  text COLLATE "C" NOT NULL,
    committed     text COLLATE "C" NOT NULL,    -- the checkpoint that it was committed with
    root          text COLLATE "C" NOT NULL,    -- that the outermost super-step around that commit started from
    callers       text[] COLLATE "C" NOT NULL,  -- ids of the tasks that it ran in
    channels      text[] COLLATE "C" NOT NULL,  -- that it wrote to
    kind          text NOT NULL,
    effect        bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id, committed)
);
CREATE INDEX provenance_by_commit ON {schema}.provenance (thread_id, committed);
