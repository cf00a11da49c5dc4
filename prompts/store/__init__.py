"""Versions and labels in the database.

- `store`: everything that is done with them, each in one transaction (`transactions`);
- `statements`: a typed function for each statement of `sql`, on `rows`;
- `in_step`: what a running super-step reads.
"""
