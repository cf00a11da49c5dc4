-- Tables of the fraud flow. Amounts are integers in minor units (cents).

CREATE SCHEMA fraud;

CREATE TABLE fraud.card (
    id           text PRIMARY KEY,
    credit_limit bigint NOT NULL CHECK (credit_limit > 0),
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'held'))
);

-- One row an authorisation: it is decided once.
CREATE TABLE fraud.decision (
    authorisation_id text PRIMARY KEY,
    card             text NOT NULL REFERENCES fraud.card,
    amount           bigint NOT NULL CHECK (amount > 0),
    outcome          text NOT NULL CHECK (outcome IN ('approved', 'blocked')),
    risk             int NOT NULL,
    reasons          text[] NOT NULL,
    decided_by       text NOT NULL,  -- a person, or "model"
    signals          jsonb NOT NULL, -- the four, as they were weighed
    point            bigint NOT NULL, -- the ingestion point that they are of
    settled_point    bigint NOT NULL, -- the one at which no threshold had been passed since
    decided_at       timestamptz NOT NULL DEFAULT now()
);
