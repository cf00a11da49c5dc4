"""What of a session a user's statement can leave behind, and how it is taken away before another uses the connection.

A staged write, or a function that it calls, may set search_path or a role, take an advisory lock, make a temporary
table, open a cursor WITH HOLD, listen, prepare. COMMIT keeps all of these, and ROLLBACK keeps advisory locks. The
statements below undo it. They are sent in one message with the COMMIT or ROLLBACK, so they cost no round trip, and
behind a proxy that shares servers among clients they reach the very session that the transaction was in.

Together they do what DISCARD ALL does, which cannot be part of a larger message, save for two things: what the driver
has prepared stays, since it counts on that; and sequences keep the values they have taken in advance.

See https://www.postgresql.org/docs/current/sql-discard.html.
"""

from __future__ import annotations

__all__ = ["RESET", "RESET_ALL", "RESET_WITHIN"]

RESET_WITHIN = "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; DISCARD TEMP"
"""What another super-step in the same transaction must not see, settings of the transaction (SET LOCAL) included."""

RESET = f"{RESET_WITHIN}; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all()"
"""All but what was prepared by name: enough after reads, and after statements that write rows."""

_PREPARED = """
DO $$ DECLARE p text; BEGIN
    FOR p IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
        EXECUTE pg_catalog.format('DEALLOCATE %I', p);
    END LOOP;
END $$"""

RESET_ALL = f"{RESET};{_PREPARED}"
"""Also that."""
