"""In which life of a server numbers of transactions count: it outlives a clean restart and vacuum, and no crash."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.collections.search import EPOCH
from superstep.checkpointer.embedded import EmbeddedServer, stop

_EPOCH = EPOCH.format(schema="runtime")
_WRITER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'"


async def ask(url: str, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(each) for each in statements]
    finally:
        await connection.close()


async def set_up(url: str) -> None:
    async with TransactionalSaver.from_conn_string(url) as saver:
        await saver.setup()
        await saver.acollection("policy", dimensions=2)


async def crash(url: str, admin_url: str) -> None:
    """Kill a process of the server: it starts anew by itself, as after a loss of power."""
    (pid,) = await ask(admin_url, _WRITER)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            try:
                if (await ask(admin_url, _WRITER))[0] not in (None, pid):
                    return
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await asyncio.sleep(0.05)


def test_which_life_of_the_server_it_is() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)  # run by root, the server is another user
        try:
            check(root)
        finally:
            stop(root)


def check(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        asyncio.run(set_up(server.url))
        (first,) = asyncio.run(ask(server.url, _EPOCH))
        assert first is not None
    stop(root)
    with EmbeddedServer.acquire(root) as server:
        assert asyncio.run(ask(server.url, _EPOCH)) == [first]
        vacuum = ("VACUUM (FREEZE) runtime.collection_epoch", "VACUUM FULL runtime.collection_epoch")
        assert asyncio.run(ask(server.url, *vacuum, _EPOCH))[-1] == first
        asyncio.run(crash(server.url, server.admin_url))
        assert asyncio.run(ask(server.url, _EPOCH)) == [None]
        asyncio.run(set_up(server.url))
        (second,) = asyncio.run(ask(server.url, _EPOCH))
        assert second not in (None, first)
