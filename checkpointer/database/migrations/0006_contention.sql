-- Tasks of a super-step whose subgraphs commit writes, by id: they come before the others in its order.
ALTER TABLE {schema}.step_attempt ADD COLUMN comes_first text[] NOT NULL DEFAULT '{}';
