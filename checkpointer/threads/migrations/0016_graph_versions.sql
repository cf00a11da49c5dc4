-- Which version of its graph a thread was run with last, and where its latest input came in.

-- `version` is what the graph says of itself, or a digest of its structure; `structure` is that digest in any case. Both are
-- null for threads that no `transactional` flow of this release or a later one has run.
-- `input_head` is the head when a call with new input took the thread: what came after it is what that input has done.
-- Null for a thread that had none; where nobody wrote it down, the history says it.
ALTER TABLE {schema}.thread
    ADD COLUMN version text, ADD COLUMN structure text, ADD COLUMN input_head text COLLATE "C";

-- A thread whose unfinished work was given up.
ALTER TABLE {schema}.thread DROP CONSTRAINT thread_status_check, ADD CONSTRAINT thread_status_check
    CHECK (status IN ('unfinished', 'interrupted', 'failed', 'completed', 'cancelled'));
