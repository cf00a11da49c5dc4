-- Processes that run threads. `{schema}` is the quoted schema. Each is one round trip.

-- name: beat
-- A sign of life, the first one included; processes that have not given one for a day are forgotten with it.
-- $1 worker $2 host $3 machine $4 pid $5 mark
WITH gone AS (DELETE FROM {schema}.worker WHERE seen_at < now() - interval '1 day' AND worker_id <> $1)
INSERT INTO {schema}.worker (worker_id, host, machine, pid, mark) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (worker_id) DO UPDATE SET seen_at = now()

-- name: leave
DELETE FROM {schema}.worker WHERE worker_id = $1

-- name: of_thread
-- Who has a thread, and which graph it is of. No row: there is no such thread. No worker: nobody who would say so.
SELECT t.graph, t.version, t.structure, t.head, t.token, t.worker_id, t.running_since, w.host, w.machine, w.pid, w.mark,
       extract(epoch FROM now() - w.seen_at)::float8 AS silent
FROM {schema}.thread t LEFT JOIN {schema}.worker w USING (worker_id) WHERE t.thread_id = $1
