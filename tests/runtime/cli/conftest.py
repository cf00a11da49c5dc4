"""Commands, in this process and in processes of their own, started in an empty folder."""

import pytest

from tests.support.commands import _own_folder, on_db, process_env, runtime, start

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as in a file: what runs the tests may have set a terminal's width."""
    monkeypatch.delenv("COLUMNS", raising=False)
