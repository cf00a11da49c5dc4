"""A round for a test, on the server under test or on one that may be killed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, stop
from tests.soak.fork import nursery
from tests.soak.round import Round

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.crash.world import Nursery
    from tests.soak.plan import Plan
    from tests.soak.round import Tally

    Rounds = Callable[..., Awaitable[Tally]]


@pytest.fixture(scope="session")
def forks() -> Iterator[Nursery]:
    forks = nursery()
    yield forks
    forks.close()


@pytest.fixture
def run_round(database_url: str, forks: Nursery, tmp_path: Path) -> Rounds:
    """Runs a round, with a defect planted if one is named."""

    def run(plan: Plan, planted: str | None = None) -> Awaitable[Tally]:
        return Round(plan, database_url, tmp_path, forks, planted=planted).run()

    return run


@pytest.fixture(scope="session")
def mortal() -> Iterator[tuple[EmbeddedServer, Path]]:
    """A server of our own, and its folder."""
    root = Path(tempfile.mkdtemp(prefix="superstep-soak-"))
    root.chmod(0o755)  # run by root, the server is another user
    with EmbeddedServer.acquire(root) as server:
        yield server, root
        stop(root)
    shutil.rmtree(root, ignore_errors=True)
