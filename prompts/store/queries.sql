-- Every statement of the prompt library, by name. `{schema}` is the quoted schema.

-- name: in_step_by_label
-- The version that a label points at for one thread, and nothing else: what a running super-step reads counts as its
-- facts. The thread's point decides on the canary here, so that a new share changes nothing for a thread whose choice
-- stays the same.
-- $1 name $2 label $3 the thread's point in [0, 1)
SELECT v.version, v.digest, v.content::text AS content FROM {schema}.prompt_version v
WHERE v.name = $1 AND v.version = (
    SELECT l.version FROM {schema}.prompt_label l
    WHERE l.name = $1
      AND (l.label = $2 OR $2 = 'production' AND l.label = 'canary' AND $3::double precision < l.weight)
    ORDER BY l.label = $2 LIMIT 1)

-- name: in_step_by_version
-- $1 name $2 version
SELECT version, digest, content::text AS content FROM {schema}.prompt_version WHERE name = $1 AND version = $2

-- name: known
-- What there is, for the error about something that is not there.
-- $1 name
SELECT ARRAY(SELECT version FROM {schema}.prompt_version WHERE name = $1 ORDER BY version) AS versions,
       ARRAY(SELECT label FROM {schema}.prompt_label WHERE name = $1 ORDER BY label) AS labels,
       ARRAY(SELECT DISTINCT name FROM {schema}.prompt_version ORDER BY name) AS names

-- name: prompts
SELECT v.name, v.version AS latest, v.description, v.created_at FROM {schema}.prompt_version v
WHERE v.version = (SELECT max(version) FROM {schema}.prompt_version w WHERE w.name = v.name)
ORDER BY v.name

-- name: labels
-- $1 name or null for all
SELECT name, label, version, weight, moved_at FROM {schema}.prompt_label
WHERE $1::text IS NULL OR name = $1 ORDER BY name, label

-- name: versions
-- $1 name $2 version or null for all
SELECT name, version, digest, content::text AS content, cases::text AS cases, description, created_at
FROM {schema}.prompt_version WHERE name = $1 AND ($2::integer IS NULL OR version = $2) ORDER BY version

-- name: same_content
-- $1 name $2 digest $3 cases $4 description
SELECT version, cases = $3::text::jsonb AND description = $4 AS same FROM {schema}.prompt_version
WHERE name = $1 AND digest = $2

-- name: insert_version
-- The next number; two that want the same one meet in the primary key. $1 name $2 digest $3 content $4 cases $5 description
INSERT INTO {schema}.prompt_version (name, version, digest, content, cases, description)
SELECT $1, COALESCE(max(version), 0) + 1, $2, $3::text::jsonb, $4::text::jsonb, $5
FROM {schema}.prompt_version WHERE name = $1
RETURNING version

-- name: replace_notes
-- $1 name $2 version $3 cases $4 description
UPDATE {schema}.prompt_version SET cases = $3::text::jsonb, description = $4 WHERE name = $1 AND version = $2

-- name: lock_label
-- $1 name $2 label
SELECT version, weight FROM {schema}.prompt_label WHERE name = $1 AND label = $2 FOR UPDATE

-- name: insert_label
-- Two that make the same label meet in the primary key. $1 name $2 label $3 version $4 weight
INSERT INTO {schema}.prompt_label (name, label, version, weight) VALUES ($1, $2, $3, $4)

-- name: update_label
-- $1 name $2 label $3 version $4 weight
UPDATE {schema}.prompt_label SET version = $3, weight = $4, moved_at = now() WHERE name = $1 AND label = $2

-- name: log_move
-- $1 name $2 label $3 from version $4 from weight $5 to version $6 to weight $7 the move it undoes or null
INSERT INTO {schema}.prompt_move (name, label, from_version, from_weight, to_version, to_weight, undoes)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: last_move
-- The latest move that has not been taken back. $1 name $2 label
SELECT id, from_version, from_weight FROM {schema}.prompt_move m
WHERE name = $1 AND label = $2 AND undoes IS NULL
  AND NOT EXISTS (SELECT 1 FROM {schema}.prompt_move u WHERE u.name = $1 AND u.label = $2 AND u.undoes = m.id)
ORDER BY id DESC LIMIT 1
