-- Tables of the underwriting flow. Amounts are integers in minor units (cents).
--
-- Hot tables keep few rows to a page (fillfactor). With few pages the planner would read the whole table even for one
-- key, and under SERIALIZABLE such a read conflicts with every write to the table; with more pages it uses the index,
-- and only flows about the same account meet. The free space also keeps updates of `drawn` out of the indexes.

CREATE SCHEMA underwriting;

CREATE TABLE underwriting.applicant (
    id            text PRIMARY KEY,
    name          text NOT NULL,
    national_id   text NOT NULL UNIQUE,
    annual_income bigint NOT NULL CHECK (annual_income >= 0),
    kyc_status    text NOT NULL CHECK (kyc_status IN ('verified', 'expired', 'pending')),
    sanctioned    boolean NOT NULL DEFAULT false
) WITH (fillfactor = 10);

CREATE TABLE underwriting.account (
    id           text PRIMARY KEY,
    applicant_id text NOT NULL REFERENCES underwriting.applicant,
    status       text NOT NULL CHECK (status IN ('open', 'closed'))
) WITH (fillfactor = 10);

CREATE TABLE underwriting.credit_line (
    id           text PRIMARY KEY,
    account_id   text NOT NULL REFERENCES underwriting.account,
    product      text NOT NULL,
    credit_limit bigint NOT NULL CHECK (credit_limit >= 0),
    drawn        bigint NOT NULL DEFAULT 0,
    UNIQUE (account_id, product),
    -- The last guard: whatever a flow believes, a line is never drawn beyond its limit.
    CONSTRAINT credit_line_within_limit CHECK (drawn BETWEEN 0 AND credit_limit)
) WITH (fillfactor = 10);

CREATE TABLE underwriting.decision (
    application_id text PRIMARY KEY,
    account_id     text NOT NULL REFERENCES underwriting.account,
    product        text NOT NULL,
    requested      bigint NOT NULL CHECK (requested > 0),
    outcome        text NOT NULL CHECK (outcome IN ('approve', 'decline', 'refer')),
    amount         bigint NOT NULL CHECK (amount >= 0),
    reasons        text[] NOT NULL,
    policies       text[] NOT NULL,
    reviewed       boolean NOT NULL,
    decided_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((outcome = 'approve') = (amount > 0))
);

CREATE TABLE underwriting.exposure (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id     text NOT NULL REFERENCES underwriting.account,
    application_id text UNIQUE REFERENCES underwriting.decision,  -- null: an obligation at another lender
    amount         bigint NOT NULL CHECK (amount > 0)
) WITH (fillfactor = 10);
CREATE INDEX exposure_account ON underwriting.exposure (account_id);

-- The columns that semantic search expects: id, content, metadata, embedding.
CREATE TABLE underwriting.policy (
    id        text PRIMARY KEY,
    product   text NOT NULL,
    content   text NOT NULL,
    metadata  jsonb NOT NULL DEFAULT '{}',
    embedding vector(256) NOT NULL
);
CREATE INDEX policy_embedding ON underwriting.policy USING hnsw (embedding vector_cosine_ops);
