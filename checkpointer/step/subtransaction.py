"""What the transaction of a snapshot is told.

Reads run in a subtransaction that is read-only, unless that can be left out (`protection`). Several super-steps that
commit in one transaction have a subtransaction each, of the same name: the one before is released first.
"""

from __future__ import annotations

from superstep.checkpointer.database.session import RESET_WITHIN

__all__ = [
    "BARE",
    "LIMIT",
    "LIMITED",
    "MEND",
    "NEXT",
    "NEXT_WRITABLE",
    "OPEN",
    "OPEN_WRITABLE",
    "PROTECTED",
    "PROTECTION",
    "ROLLED_BACK",
    "UNPROTECTED",
    "WRITES",
]

PROTECTED = "SET LOCAL transaction_read_only = on"
UNPROTECTED = "ROLLBACK TO SAVEPOINT reads"
MEND = f"{UNPROTECTED}; {PROTECTED}"

BARE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
"""Without the subtransaction, see `protection`."""

# The snapshot is taken before read-only is set, since SSI decides at that moment whether to treat a transaction as
# read-only for good.
PROTECTION = f"SELECT 1; SAVEPOINT reads; {PROTECTED}"
OPEN = f"{BARE}; {PROTECTION}"

# Of a transaction that takes locks. A process that is paused now must not keep others out for ever.
LIMIT = 60.0
LIMITED = f"SET LOCAL idle_in_transaction_session_timeout = '{LIMIT:.0f}s'"
WRITES = f"{UNPROTECTED}; {LIMITED}"

# In which others may go on, with reads that need no protection: writes may follow at once.
OPEN_WRITABLE = f"{BARE}; {LIMITED}; SELECT 1; SAVEPOINT reads"

# After another super-step: what its triggers may have set is not for this one. Those before it do not wait for locks
# that only this one needs: it then tries again alone.
_AFTER = f"RELEASE SAVEPOINT reads; {RESET_WITHIN}; SET LOCAL lock_timeout = '1s'"
NEXT = f"{_AFTER}; SAVEPOINT reads; {PROTECTED}"
NEXT_WRITABLE = f"{_AFTER}; {LIMITED}; SAVEPOINT reads"

# What this super-step did, and not what those before it did.
ROLLED_BACK = f"{UNPROTECTED}; COMMIT"
