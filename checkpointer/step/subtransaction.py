"""What the transaction of a snapshot is told.

Reads run in a subtransaction that is read-only, unless it can be left out (`protection`); so does what several
super-steps write that commit in one transaction, each in its own. All have the same name: the one before is released
first.
"""

from __future__ import annotations

from superstep.checkpointer.database.session import RESET_WITHIN

__all__ = [
    "BARE",
    "LIMIT",
    "LIMITED",
    "MEND",
    "NEXT",
    "OPEN",
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

# After another super-step: what its triggers may have set is not for this one. Those before it do not wait for locks
# that only this one needs: it then tries again alone.
NEXT = f"RELEASE SAVEPOINT reads; {RESET_WITHIN}; SET LOCAL lock_timeout = '1s'; SAVEPOINT reads; {PROTECTED}"

# Of a transaction that takes locks. A process that is paused now must not keep others out for ever.
LIMIT = 60.0
LIMITED = f"SET LOCAL idle_in_transaction_session_timeout = '{LIMIT:.0f}s'"
WRITES = f"{UNPROTECTED}; {LIMITED}"

# What this super-step did, and not what those before it did.
ROLLED_BACK = f"{UNPROTECTED}; COMMIT"
