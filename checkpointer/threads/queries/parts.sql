-- Parts of statements of several files.

-- name: tuple_columns
-- What a checkpoint tuple is made of; `c` is the checkpoint.
c.ns, c.checkpoint_id, c.parent_id, c.kind, c.payload, c.metadata::text AS metadata,
v.names AS value_names, v.kinds AS value_kinds, v.vals AS value_values,
w.tasks AS write_tasks, w.channels AS write_channels, w.kinds AS write_kinds, w.vals AS write_values,
w.idx AS write_idx, w.paths AS write_paths,
EXISTS (SELECT 1 FROM {schema}.step_attempt a WHERE a.thread_id = c.thread_id AND a.ns = c.ns
        AND a.checkpoint_id = c.checkpoint_id)
OR EXISTS (SELECT 1 FROM {schema}.task_effect e WHERE e.thread_id = c.thread_id AND e.ns = c.ns
           AND e.checkpoint_id = c.checkpoint_id) AS tried_before

-- name: tuple_joins
LEFT JOIN LATERAL (
    SELECT array_agg(x.channel) AS names, array_agg(x.kind) AS kinds, array_agg(x.value) AS vals
    FROM unnest(c.channels, c.versions) AS ref (channel, version)
    JOIN {schema}.channel_value x
      ON x.thread_id = c.thread_id AND x.ns = c.ns AND x.channel = ref.channel AND x.version = ref.version
) v ON cardinality(c.channels) > 0
LEFT JOIN LATERAL (
    SELECT array_agg(y.task_id) AS tasks, array_agg(y.channel) AS channels,
           array_agg(y.kind) AS kinds, array_agg(y.value) AS vals,
           array_agg(y.idx) AS idx, array_agg(y.task_path) AS paths
    FROM (SELECT task_id, channel, kind, value, idx, task_path FROM {schema}.task_write
          WHERE thread_id = c.thread_id AND ns = c.ns AND checkpoint_id = c.checkpoint_id
          ORDER BY task_path, task_id, idx) y
) w ON true
