"""Derived state: aggregates over ingested events, maintained in the transaction that ingests them.

Pure:
- `aggregates`: what is declared; `windows`: panes and windows; `paths`: places in a payload, keys and values as text;
- `records`: what a source gives and what becomes of it; `decoding`, with `debezium`: bytes to events;
- `folding`: what events come to, for each aggregate.

On the database:
- `queries`: a typed function for each statement; `migrations`: the tables;
- `batch`: one batch, one transaction; `rebuild`: an aggregate anew from the kept events;
- `ingestion`: what a program uses; `pump`: from a source into batches; `files`, `replica`: sources;
- `signals`: what a running super-step reads.
"""
