-- Tables of the workspace flow. Rows are only added.

CREATE SCHEMA workspace;

-- One row a merge, numbered without gaps. Its number is also what the files were before the next one: whoever merges on
-- top of merge 7 inserts merge 8, and the primary key lets one of two do that.
CREATE TABLE workspace.merge (
    id        bigint PRIMARY KEY,
    thread_id text NOT NULL,
    agent     text NOT NULL,
    task      text NOT NULL,
    reviewed  text NOT NULL,  -- digest of the diff that was approved
    tested    text NOT NULL,  -- digest of the files that the tests ran on
    merged_at timestamptz NOT NULL DEFAULT now()
);

-- A file as a merge left it. The files as of merge n: for each path the row with the greatest merge up to n.
CREATE TABLE workspace.file (
    path    text NOT NULL CHECK (path ~ '^[a-z0-9_]+\.py$'),
    merge   bigint NOT NULL REFERENCES workspace.merge,
    content text NOT NULL,
    PRIMARY KEY (path, merge)
);
