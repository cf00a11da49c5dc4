"""Everything here races for the accounts of one bank."""

from tests.support.bank import bank, hold_idle, new_thread, no_failpoints, saver, sync_saver, thread

__all__ = ["bank", "hold_idle", "new_thread", "no_failpoints", "saver", "sync_saver", "thread"]
