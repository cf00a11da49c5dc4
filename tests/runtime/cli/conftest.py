"""Commands, in this process and in processes of their own, started in an empty folder."""

from tests.support.commands import _own_folder, on_db, process_env, runtime, start

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]
