-- Tables of the support flow. Amounts are integers in minor units (cents).

CREATE SCHEMA support;

CREATE TABLE support.customer (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    status      text NOT NULL CHECK (status IN ('open', 'closed')),
    address     text NOT NULL,
    refund_cap  bigint NOT NULL CHECK (refund_cap >= 0),  -- the most that may be refunded in a year
    refunds     integer NOT NULL DEFAULT 0                -- how many, in all
) WITH (fillfactor = 10);

CREATE TABLE support.purchase (
    id          text PRIMARY KEY,
    customer_id text NOT NULL REFERENCES support.customer,
    item        text NOT NULL,
    total       bigint NOT NULL CHECK (total > 0),
    status      text NOT NULL CHECK (status IN ('shipped', 'delivered', 'cancelled'))
) WITH (fillfactor = 10);
CREATE INDEX purchase_customer ON support.purchase (customer_id);

-- One row an order: it is refunded once.
CREATE TABLE support.refund (
    order_id    text PRIMARY KEY REFERENCES support.purchase,
    amount      bigint NOT NULL CHECK (amount > 0),
    reason      text NOT NULL,
    approved_by text,  -- null: small enough to need nobody
    thread_id   text NOT NULL,
    refunded_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE support.refund_year (
    customer_id text NOT NULL REFERENCES support.customer,
    year        integer NOT NULL,
    cap         bigint NOT NULL,
    refunded    bigint NOT NULL,
    PRIMARY KEY (customer_id, year),
    -- The last guard: whatever a flow believes, the yearly limit is never exceeded.
    CONSTRAINT refund_year_within_cap CHECK (refunded BETWEEN 0 AND cap)
) WITH (fillfactor = 10);

-- The columns that semantic search expects: id, content, metadata, embedding.
CREATE TABLE support.article (
    id        text PRIMARY KEY,
    content   text NOT NULL,
    metadata  jsonb NOT NULL DEFAULT '{}',
    embedding vector(256) NOT NULL
);
CREATE INDEX article_embedding ON support.article USING hnsw (embedding vector_cosine_ops);
