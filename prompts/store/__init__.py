"""Versions and labels in the database.

- `store`: everything that is done with them, each in one transaction (`transactions`);
- `queries`: a typed function for each statement, in `rows`. `migrations`: the tables;
- `in_step`: what a running super-step reads.
"""
