-- Parts of statements of several files.

-- name: value_joins
-- The values that `c` names by `channels` and `versions`: each with what it builds on after it, up to a whole one. Every
-- version is looked up by its key (LIMIT keeps the planner from reading all of the thread's instead); a circle, which
-- nothing here makes, ends.
LEFT JOIN LATERAL (
    WITH RECURSIVE way AS (
        SELECT ref.nth, 0 AS depth, ref.channel, x.kind, x.value, x.base
        FROM unnest(c.channels, c.versions) WITH ORDINALITY AS ref (channel, version, nth) CROSS JOIN LATERAL (
            SELECT y.kind, y.value, y.base FROM {schema}.channel_value y
            WHERE y.thread_id = c.thread_id AND y.ns = c.ns AND y.channel = ref.channel AND y.version = ref.version
            LIMIT 1) x
        UNION ALL
        SELECT way.nth, way.depth + 1, way.channel, x.kind, x.value, x.base
        FROM way CROSS JOIN LATERAL (
            SELECT y.kind, y.value, y.base FROM {schema}.channel_value y
            WHERE y.thread_id = c.thread_id AND y.ns = c.ns AND y.channel = way.channel AND y.version = way.base
            LIMIT 1) x
        WHERE way.base IS NOT NULL AND way.depth < 1000
    )
    SELECT array_agg(o.channel) AS names, array_agg(o.kind) AS kinds, array_agg(o.value) AS vals,
           array_agg(o.base) AS bases
    FROM (SELECT * FROM way ORDER BY nth, depth) o
) v ON cardinality(c.channels) > 0

-- name: tuple_columns
-- What a checkpoint tuple is made of, with both joins; `c` is the checkpoint.
c.ns, c.checkpoint_id, c.parent_id, c.kind, c.payload, c.metadata::text AS metadata,
v.names AS value_names, v.kinds AS value_kinds, v.vals AS value_values, v.bases AS value_bases,
w.tasks AS write_tasks, w.channels AS write_channels, w.kinds AS write_kinds, w.vals AS write_values,
w.idx AS write_idx, w.paths AS write_paths,
EXISTS (SELECT 1 FROM {schema}.step_attempt a WHERE a.thread_id = c.thread_id AND a.ns = c.ns
        AND a.checkpoint_id = c.checkpoint_id)
OR EXISTS (SELECT 1 FROM {schema}.task_effect e WHERE e.thread_id = c.thread_id AND e.ns = c.ns
           AND e.checkpoint_id = c.checkpoint_id) AS tried_before

-- name: tuple_joins
LEFT JOIN LATERAL (
    SELECT array_agg(y.task_id) AS tasks, array_agg(y.channel) AS channels,
           array_agg(y.kind) AS kinds, array_agg(y.value) AS vals,
           array_agg(y.idx) AS idx, array_agg(y.task_path) AS paths
    FROM (SELECT task_id, channel, kind, value, idx, task_path FROM {schema}.task_write
          WHERE thread_id = c.thread_id AND ns = c.ns AND checkpoint_id = c.checkpoint_id
          ORDER BY task_path, task_id, idx) y
) w ON true
