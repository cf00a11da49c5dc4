"""SIGKILL of the database server in the middle of a run. The process that runs the flow lives on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.embedded import EmbeddedServer, status, stop
from tests.crash import graphs_for_crash
from tests.crash.world import Traces, paid_in, summary
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.conftest import Undisturbed

THREAD = config_of("t")
OLD_ENOUGH = "SELECT pg_sleep(greatest(0, 1.2 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))"
FRESH = f"DROP SCHEMA IF EXISTS runtime CASCADE; DROP TABLE IF EXISTS account, journal; {graphs_for_crash.TABLES}"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The folder of a server of our own."""
    folder = Path(tempfile.mkdtemp(prefix="superstep-crash-"))
    folder.chmod(0o755)  # run by root, the server is another user
    yield folder
    stop(folder)
    shutil.rmtree(folder)


@pytest.fixture
def server(root: Path) -> Iterator[EmbeddedServer]:
    """Old enough to be started again when it dies: one that dies at once is not."""
    with EmbeddedServer.acquire(root) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(FRESH)
            connection.execute(OLD_ENOUGH)
        yield server


def kill_server_at(name: str, nth: int, root: Path, *, during: bool) -> None:
    """Kill it when the run reaches the place, or just after that, while its next statement is on the way."""
    left = nth

    def kill() -> None:
        pid = status(root).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def act() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            kill() if not during else asyncio.get_running_loop().call_soon(kill)

    failpoints.arm(name, act)


@pytest.mark.parametrize("during", [False, True], ids=["before", "during"])
@pytest.mark.parametrize("place", ["run.claimed:1", "step.pinned:2", "memo.before_store:5", "commit.before_commit:4"])
async def test_a_run_outlives_a_server_that_comes_back_and_pays_for_nothing_twice(
    root: Path,
    server: EmbeddedServer,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    during: bool,
) -> None:
    monkeypatch.setenv(graphs_for_crash.PAID, str(tmp_path / "paid"))
    name, _, nth = place.partition(":")
    async with TransactionalSaver.from_conn_string(server.url) as saver:
        await saver.setup()
        kill_server_at(name, int(nth), root, during=during)
        flow = transactional(graphs_for_crash.flow.compile(checkpointer=saver))
        values = await flow.ainvoke(graphs_for_crash.example_input, THREAD)
        steps = [summary(asdict(step)) for step in await saver.asteps("t")]
        async with saver.transaction() as tx:
            balances = [row[0] for row in await tx.fetch("SELECT balance FROM account ORDER BY id")]
            journal = [row[0] for row in await tx.fetch("SELECT line FROM journal ORDER BY seq")]
    left = Traces(balances, journal, values, steps, paid_in(tmp_path / "paid"))
    left.assert_equal(undisturbed.traces)
    assert left.paid == undisturbed.traces.paid
