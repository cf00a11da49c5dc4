-- Values that grow: a version is stored whole, or as what is different from another version, its base.

-- The version of the same channel that a row builds on; null if it is whole. `kind` says so too, so that a worker of the
-- release before, which does not look here, refuses the row instead of taking it for the value.
ALTER TABLE {schema}.channel_value ADD COLUMN base text COLLATE "C";
