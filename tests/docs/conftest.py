"""Commands of a page, in an empty folder, on a database of their own or on the embedded one."""

from tests.docs.pages import embedded, shell
from tests.support.commands import _own_folder, process_env, runtime

__all__ = ["_own_folder", "embedded", "process_env", "runtime", "shell"]
