-- Runs that are submitted again and again. `{schema}` is the quoted schema. Each is one round trip.

-- name: add
-- No row: there is one of that name. $1 name $2 graph $3 expression $4 time zone $5 catch-up $6 tenant $7 kind $8 request
-- $9 the first time
INSERT INTO {schema}.run_schedule (name, graph, expression, timezone, catch_up, tenant, kind, request, next_tick)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING RETURNING 1

-- name: listed
SELECT name, graph, expression, timezone, catch_up, tenant, next_tick, created_at FROM {schema}.run_schedule ORDER BY name

-- name: remove
DELETE FROM {schema}.run_schedule WHERE name = $1 RETURNING 1

-- name: due
-- Schedules of which a time has come, locked until the transaction ends; not those that another worker has locked.
SELECT name, graph, expression, timezone, catch_up, tenant, kind, request, next_tick, now() AS now
FROM {schema}.run_schedule WHERE next_tick <= now() ORDER BY name FOR UPDATE SKIP LOCKED

-- name: is_due
SELECT EXISTS (SELECT FROM {schema}.run_schedule WHERE next_tick <= now())

-- name: move
-- $1 name $2 the next time
UPDATE {schema}.run_schedule SET next_tick = $2 WHERE name = $1

-- name: far
-- Schedules with the database's clock, for those whose next time is too far away: the clock has been put back.
SELECT name, expression, timezone, next_tick, now() AS now FROM {schema}.run_schedule WHERE next_tick > now()

-- name: draw_near
-- $1 name $2 the next time as it was read $3 as it should be
UPDATE {schema}.run_schedule SET next_tick = $3 WHERE name = $1 AND next_tick = $2

-- name: submit
-- A run for each time. One that was submitted for it before stands.
-- $1 schedule $2 graph $3 tenant $4-$8 by run: time, id, thread, kind, request
INSERT INTO {schema}.queued_run (run_id, thread_id, graph, tenant, kind, request, schedule, tick)
SELECT t.run_id, t.thread_id, $2, $3, t.kind, t.request, $1, t.tick
FROM unnest($4::timestamptz[], $5::uuid[], $6::text[], $7::text[], $8::bytea[]) AS t (tick, run_id, thread_id, kind, request)
ON CONFLICT (schedule, tick) DO NOTHING
