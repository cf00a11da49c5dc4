-- name: create
-- The application's own tables, in a schema for each side. Amounts are in cents. They have no CHECK that would turn a
-- wrong draw into an error: what is decided is what is seen. Few rows stand on a page, so that only flows that are about
-- the same account meet.
--
-- What the database notes of a draw and of a decision, it notes itself, on both sides alike: the draw's own transaction
-- has locked the two rows by then, so what they held before it is what it was drawn on, in the order of commits.
CREATE SCHEMA {schema};
CREATE TABLE {schema}.account (
    id           text PRIMARY KEY,
    credit_limit bigint NOT NULL,
    drawn        bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE TABLE {schema}.velocity (
    account_id text PRIMARY KEY REFERENCES {schema}.account,
    most_today bigint NOT NULL,
    today      bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE TABLE {schema}.draw (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow          text NOT NULL UNIQUE,
    account_id    text NOT NULL REFERENCES {schema}.account,
    amount        bigint NOT NULL,
    planned_drawn bigint NOT NULL,
    planned_today bigint NOT NULL,
    credit_limit  bigint NOT NULL,
    most_today    bigint NOT NULL,
    drawn_before  bigint NOT NULL,
    today_before  bigint NOT NULL
);
CREATE TABLE {schema}.decision (
    flow         text PRIMARY KEY,
    account_id   text NOT NULL REFERENCES {schema}.account,
    outcome      text NOT NULL CHECK (outcome IN ('approve', 'decline')),
    amount       bigint NOT NULL,
    credit_limit bigint NOT NULL,
    most_today   bigint NOT NULL,
    drawn        bigint NOT NULL,
    today        bigint NOT NULL
);
CREATE FUNCTION {schema}.note_draw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.credit_limit, v.most_today, a.drawn - NEW.amount, v.today - NEW.amount
      INTO NEW.credit_limit, NEW.most_today, NEW.drawn_before, NEW.today_before
      FROM {schema}.account a JOIN {schema}.velocity v ON v.account_id = a.id WHERE a.id = NEW.account_id;
    RETURN NEW;
END $$;
CREATE TRIGGER note BEFORE INSERT ON {schema}.draw FOR EACH ROW EXECUTE FUNCTION {schema}.note_draw();
CREATE FUNCTION {schema}.note_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.credit_limit, v.most_today, a.drawn, v.today
      INTO NEW.credit_limit, NEW.most_today, NEW.drawn, NEW.today
      FROM {schema}.account a JOIN {schema}.velocity v ON v.account_id = a.id WHERE a.id = NEW.account_id;
    RETURN NEW;
END $$;
CREATE TRIGGER note BEFORE INSERT ON {schema}.decision FOR EACH ROW EXECUTE FUNCTION {schema}.note_decision();

-- name: drop
DROP SCHEMA IF EXISTS {schema} CASCADE

-- name: open_account
INSERT INTO {schema}.account (id, credit_limit) VALUES ($1, $2)

-- name: open_day
INSERT INTO {schema}.velocity (account_id, most_today) VALUES ($1, $2)

-- name: account
SELECT credit_limit, drawn FROM {schema}.account WHERE id = $1

-- name: velocity
SELECT most_today, today FROM {schema}.velocity WHERE account_id = $1

-- name: drawn_by
SELECT amount FROM {schema}.draw WHERE flow = $1

-- name: draw_line
UPDATE {schema}.account SET drawn = drawn + $2 WHERE id = $1

-- name: draw_day
UPDATE {schema}.velocity SET today = today + $2 WHERE account_id = $1

-- name: note_draw
INSERT INTO {schema}.draw (flow, account_id, amount, planned_drawn, planned_today) VALUES ($1, $2, $3, $4, $5)

-- name: book
INSERT INTO {schema}.decision (flow, account_id, outcome, amount) VALUES ($1, $2, $3, $4)

-- name: draws
SELECT flow, account_id, amount, planned_drawn, planned_today, credit_limit, most_today, drawn_before, today_before
  FROM {schema}.draw ORDER BY seq

-- name: decisions
SELECT flow, account_id, outcome, amount, credit_limit, most_today, drawn, today FROM {schema}.decision ORDER BY flow

-- name: accounts
SELECT a.id, a.credit_limit, a.drawn, v.most_today, v.today
  FROM {schema}.account a JOIN {schema}.velocity v ON v.account_id = a.id ORDER BY a.id
