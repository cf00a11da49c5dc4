-- What a step reads of derived state.

-- Everything up to here has been seen, as far as partitions that are still read are in order. Once all have ended, the latest.
-- name: watermark
SELECT COALESCE(min(watermark) FILTER (WHERE NOT ended), max(watermark)) FROM {schema}.derived_partition

-- name: ingestion
SELECT (SELECT point FROM {schema}.derived_point) AS point, ({watermark}) AS watermark

-- One row: the declaration, and of one key what it computes in the window that has the moment $3, else the watermark. Neither
-- of the two is in the row: it changes when the values change, and not with every event.
-- name: signal
SELECT a.spec::text AS spec, a.status,
    CASE WHEN a.spec -> 'compute' ?| ARRAY['count', 'sum', 'avg'] THEN (
        SELECT ARRAY[COALESCE(sum(n.count), 0), COALESCE(sum(n.sum), 0)] FROM {schema}.derived_number n
        WHERE n.aggregate_id = a.id AND n.key = $2 AND n.pane >= w.since AND n.pane < w.until) END AS numbers,
    CASE WHEN a.spec -> 'compute' ? 'distinct' THEN (
        SELECT count(DISTINCT m.member) FROM {schema}.derived_member m
        WHERE m.aggregate_id = a.id AND m.key = $2 AND m.pane >= w.since AND m.pane < w.until) END AS members,
    CASE WHEN a.spec -> 'compute' ? 'top' THEN (
        SELECT jsonb_agg(jsonb_build_array(t.member::jsonb, t.count) ORDER BY t.count DESC, t.member)::text FROM (
            SELECT m.member, sum(m.count) AS count FROM {schema}.derived_member m
            WHERE m.aggregate_id = a.id AND m.key = $2 AND m.pane >= w.since AND m.pane < w.until
            GROUP BY m.member ORDER BY sum(m.count) DESC, m.member LIMIT (a.spec ->> 'top')::int) t) END AS top,
    CASE WHEN a.spec -> 'compute' ? 'last' THEN (
        SELECT l.value::text FROM {schema}.derived_last l
        WHERE l.aggregate_id = a.id AND l.key = $2 AND l.pane >= w.since AND l.pane < w.until
        ORDER BY l.at DESC, l.partition_id DESC, l.position DESC LIMIT 1) END AS last
FROM {schema}.derived_aggregate a,
LATERAL (SELECT make_interval(secs => a.step_us / 1000000.0) AS step, make_interval(secs => a.window_us / 1000000.0) AS length) s,
LATERAL (SELECT date_bin(s.step, COALESCE($3::timestamptz, ({watermark})), '2001-01-01 00:00+00') + s.step AS until) u,
LATERAL (SELECT CASE WHEN a.step_us IS NULL THEN '-infinity' ELSE u.until - s.length END AS since,
                CASE WHEN a.step_us IS NULL THEN 'infinity' ELSE u.until END AS until) w
WHERE a.name = $1
