"""Everything here races for the accounts of one bank."""

from tests.support.bank import bank, hold_idle, new_thread, no_failpoints, saver, sync_saver, thread
from tests.support.guards import no_guards
from tests.support.lock_order import lock_order

__all__ = [
    "bank",
    "hold_idle",
    "lock_order",
    "new_thread",
    "no_failpoints",
    "no_guards",
    "saver",
    "sync_saver",
    "thread",
]
