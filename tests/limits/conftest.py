"""Everything here uses one bank."""

from tests.support.bank import bank, hold_idle, new_thread, no_failpoints, saver, thread

__all__ = ["bank", "hold_idle", "new_thread", "no_failpoints", "saver", "thread"]
