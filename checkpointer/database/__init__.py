"""The pool, who holds its connections, retries, migrations. Knows nothing of super-steps."""
