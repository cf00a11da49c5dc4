-- Tables of the approvals flow. Amounts are integers in minor units (cents).

CREATE SCHEMA approvals;

CREATE TABLE approvals.vendor (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    status       text NOT NULL CHECK (status IN ('active', 'blocked')),
    bank_account text NOT NULL,
    phone        text NOT NULL DEFAULT '', -- no decision rests on it
    paid         bigint NOT NULL DEFAULT 0 -- by this flow, in all
) WITH (fillfactor = 10);

CREATE TABLE approvals.budget (
    id    text PRIMARY KEY,
    total bigint NOT NULL CHECK (total >= 0),
    spent bigint NOT NULL DEFAULT 0,
    -- The last guard: whatever a flow believes, a budget is never exceeded.
    CONSTRAINT budget_within_total CHECK (spent BETWEEN 0 AND total)
) WITH (fillfactor = 10);

CREATE TABLE approvals.approver (
    id    text PRIMARY KEY,
    name  text NOT NULL,
    up_to bigint NOT NULL CHECK (up_to >= 0)  -- the largest amount that this person may approve
);

-- What the sanctions service said, about whom, and when: an answer of the outside world as a row, so that others need
-- not ask again, and a later super-step can ask whether it still counts.
CREATE TABLE approvals.screening (
    id           text PRIMARY KEY,  -- the identity under which the service was asked
    vendor_id    text NOT NULL REFERENCES approvals.vendor,
    name         text NOT NULL,
    bank_account text NOT NULL,
    clear        boolean NOT NULL,
    screened_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX screening_vendor ON approvals.screening (vendor_id, screened_at);

-- One row a person: a second approval of the same person is the same row.
CREATE TABLE approvals.approval (
    vendor_id    text NOT NULL REFERENCES approvals.vendor,
    invoice      text NOT NULL,
    bank_account text NOT NULL,  -- what the person was shown
    amount       bigint NOT NULL,
    approver_id  text NOT NULL REFERENCES approvals.approver,
    note         text NOT NULL,
    approved_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vendor_id, invoice, bank_account, amount, approver_id)
);

-- One row an invoice: it is paid once.
CREATE TABLE approvals.payment (
    vendor_id    text NOT NULL REFERENCES approvals.vendor,
    invoice      text NOT NULL,
    budget_id    text NOT NULL REFERENCES approvals.budget,
    bank_account text NOT NULL,
    amount       bigint NOT NULL CHECK (amount > 0),
    paid_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vendor_id, invoice)
);
