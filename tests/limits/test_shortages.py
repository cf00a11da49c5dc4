"""Disks that are full, memory for locks that is used up, limits of the server's settings: SQLSTATEs of class 53."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.embedded import EmbeddedServer, stop
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.runtime.faults import DatabaseUnavailable, ReadFailed
from tests.support.bank import BALANCE, LOG, Bank, make_bank
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.runnables import RunnableConfig

    from tests.support.databases import Admin

LONG = "INSERT INTO ledger (line) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, $1::int)"
TOO_LONG = 200_000  # of 32 bytes: more than the disk has


class Disk(NamedTuple):
    """A tablespace on a disk of its own."""

    name: str
    folder: Path

    def grow(self) -> None:
        """Make room on it."""
        subprocess.run(["mount", "-o", "remount,size=64m", self.folder], check=True)


@pytest.fixture
def small_disk(admin: Admin, database_url: str) -> Iterator[Disk]:
    """A tablespace on a disk of 4 MB, with nothing of the database on it when the test is over."""
    (data,) = admin.execute("SHOW data_directory").fetchone() or ("",)
    if os.geteuid() != 0 or not Path(data).exists():
        pytest.skip("to make a small disk for the server takes root on its machine")
    folder = Path(tempfile.mkdtemp(prefix="superstep-disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", folder], check=False).returncode:
        folder.rmdir()
        pytest.skip("this machine lets nobody mount a disk")
    name = f"disk_{uuid.uuid4().hex[:8]}"
    try:
        owner, space = Path(data).stat(), folder / "space"
        space.mkdir(0o700)
        os.chown(space, owner.st_uid, owner.st_gid)
        admin.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
        yield Disk(name, folder)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "DROP TABLE IF EXISTS ledger; ALTER TABLE runtime.channel_value SET TABLESPACE pg_default"
            )
        admin.execute(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


async def test_a_staged_write_that_finds_the_disk_full(
    small_disk: Disk, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """It is no fault of the task's: its result is kept, and committed when there is room."""
    await bank.do(f"CREATE TABLE ledger (line text) TABLESPACE {small_disk.name}")
    ran: list[int] = []

    async def node(state: Any) -> Any:
        ran.append(1)
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "x")
        step.stage(LONG, TOO_LONG)
        return {"seen": [1]}

    flow = transactional(chain(saver, node))
    with pytest.raises(DatabaseUnavailable, match=r"53100.*runtime resume"):
        await flow.ainvoke({"seen": []}, thread)
    assert await bank.journal() == []
    small_disk.grow()
    assert (await flow.ainvoke(None, thread))["seen"] == [1]
    assert (ran, await bank.journal()) == ([1], ["x"])


async def test_our_own_tables_find_the_disk_full(
    small_disk: Disk, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async with saver.database.connections.borrow() as conn:
        await conn.execute(f"ALTER TABLE runtime.channel_value SET TABLESPACE {small_disk.name}")
    size = 32 * TOO_LONG

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        return {"seen": [1], "bag": {"noise": random.Random(7).randbytes(size)}}

    async def plain(state: Any) -> Any:
        return {"seen": [1], "bag": {"noise": random.Random(7).randbytes(size)}}

    for each in (node, plain):
        flow = transactional(chain(saver, each))
        with pytest.raises(DatabaseUnavailable, match=r"53100.*runtime resume"):
            await flow.ainvoke({"seen": []}, config_of(each.__name__))
    assert await bank.journal() == []
    small_disk.grow()
    for each in (node, plain):
        assert await transactional(chain(saver, each)).ainvoke(None, config_of(each.__name__))
    assert await bank.journal() == ["x"]


async def test_a_read_that_needs_more_room_than_the_settings_allow(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig
) -> None:
    name = (await bank.do("SELECT current_database() AS name"))[0]["name"]
    for setting in ("temp_file_limit = 64", "work_mem = 64"):
        await bank.do(f"ALTER DATABASE {name} SET {setting}")

    async def node(state: Any) -> Any:
        step = current_step()
        with pytest.raises(ReadFailed, match="temp_file_limit") as caught:
            await step.fetch("SELECT md5(i::text) AS x FROM generate_series(1, 200000) i ORDER BY x")
        assert caught.value.sqlstate == "53400"
        step.stage(LOG, str(await step.fetchval(BALANCE, 1)))
        return {}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        await transactional(chain(other, node)).ainvoke({"seen": []}, thread)
    assert await bank.journal() == ["100"]


# -- predicate locks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow_url() -> Iterator[str]:
    """A server of our own that locks each row that is read, and has room for 31,000."""
    root = Path(tempfile.mkdtemp(prefix="superstep-locks-"))
    root.chmod(0o755)  # run by root, the server is another user
    try:
        with EmbeddedServer.acquire(root) as server:
            with psycopg.connect(server.admin_url, autocommit=True) as connection:
                for each in ("max_pred_locks_per_relation = 1000000", "max_pred_locks_per_page = 1000"):
                    connection.execute(f"ALTER SYSTEM SET {each}")
                connection.execute("SELECT pg_reload_conf()")
                connection.execute("CREATE TABLE wide AS SELECT i AS id FROM generate_series(1, 200000) i")
                connection.execute("ALTER TABLE wide ADD PRIMARY KEY (id)")
                connection.execute("ANALYZE wide")
            yield server.admin_url
    finally:
        stop(root)
        shutil.rmtree(root, ignore_errors=True)


_COUNT = "SELECT count(*) FROM wide WHERE id = ANY (ARRAY(SELECT 2 * i + $2 FROM generate_series(1, $1::int) i))"
_TOO_MANY = 90_000  # rows, with a lock for each
_MOST = 20_000  # that one transaction can have, and two cannot


@pytest.fixture
async def narrow(narrow_url: str, hold_idle: float | str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(narrow_url, hold_idle=hold_idle, pool_max=5) as saver:
        await saver.setup()
        async with saver.transaction() as tx:
            await tx.execute("DROP TABLE IF EXISTS account, journal")
        await make_bank(saver)
        yield saver


@pytest.mark.parametrize("hold_idle", ["forever", 0])
async def test_predicate_locks_are_used_up(narrow: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        with pytest.raises(ReadFailed, match="max_pred_locks_per_transaction") as caught:
            await step.fetchval(_COUNT, _TOO_MANY, 0)
        assert caught.value.sqlstate == "53200"
        step.stage(LOG, str(balance))
        return {}

    async with asyncio.timeout(60):
        await transactional(chain(narrow, node)).ainvoke({"seen": []}, thread)
    assert await Bank(narrow).journal() == ["100"]


@pytest.mark.parametrize("hold_idle", ["forever", 0])
async def test_predicate_locks_that_others_hold_are_waited_for(
    narrow: TransactionalSaver, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is given back, with its own locks, and begun again: as often as it gives way to the others."""
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with narrow.transaction() as tx:
            await tx.fetchval(_COUNT, _MOST, 0)
            held.set()
            await let_go.wait()

    holder = asyncio.create_task(hold())
    await held.wait()
    lost, failures = Snapshot.lost, []

    async def then_let_go(snapshot: Snapshot, error: BaseException | None = None) -> None:
        await lost(snapshot, error)
        failures.append(error)
        let_go.set()
        await holder

    async def node(state: Any) -> Any:
        total = await current_step().fetchval(_COUNT, _MOST, 1)
        current_step().stage(LOG, str(total))
        return {}

    monkeypatch.setattr(Snapshot, "lost", then_let_go)
    async with asyncio.timeout(60):
        await transactional(chain(narrow, node)).ainvoke({"seen": []}, thread)
    assert getattr(failures[0], "sqlstate", None) == "53200"
    assert await Bank(narrow).journal() == [str(_MOST)]
