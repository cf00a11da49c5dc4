-- With an encrypting serializer: the key of the digests that lie open, itself encrypted. One row, or none.
CREATE TABLE {schema}.encryption (
    name       text COLLATE "C" PRIMARY KEY,
    kind       text NOT NULL,
    value      bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
