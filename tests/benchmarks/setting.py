"""Where the benchmarks run: one embedded server in a folder of its own, a fresh database for each benchmark."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.embedded import EmbeddedServer, stop
from tests.support.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

__all__ = ["ACCOUNTS", "MEMORY", "OURS", "Place", "UPSTREAM", "benchmark_place", "savers", "thread", "upstream"]

OURS = "TransactionalSaver"
UPSTREAM = "AsyncPostgresSaver"
MEMORY = "InMemorySaver"
ACCOUNTS = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO account SELECT i, 1000000 FROM generate_series(1, 10000) AS i
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A database of one's own, and how much to measure: `rounds` is the number of turns of each contender."""

    url: str
    rounds: int
    quick: bool

    def size(self, full: int, quick: int) -> int:
        """How much of something, by whether the figures matter or only that the benchmark works."""
        return quick if self.quick else full


@contextmanager
def benchmark_place(url: str | None, *, quick: bool) -> Iterator[Place]:
    """A fresh database on the server at `url`, or on an embedded one that is gone afterwards."""
    with (
        _server(url) as server,
        psycopg.connect(server, autocommit=True) as admin,
        fresh_database(admin, server, "template0") as database,
    ):
        yield Place(database, rounds=2 if quick else 7, quick=quick)


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    root = Path(tempfile.mkdtemp(prefix="superstep-bench-"))
    root.chmod(0o755)  # run by root, the server is another user
    try:
        with EmbeddedServer.acquire(root) as server:
            yield server.admin_url
    finally:
        stop(root)
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def upstream(url: str, connections: int) -> AsyncIterator[AsyncPostgresSaver]:
    """LangGraph's own Postgres saver, set up as its documentation says."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url,
        min_size=connections,
        max_size=connections,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    async with pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        yield saver


@asynccontextmanager
async def savers(place: Place, connections: int) -> AsyncIterator[dict[str, BaseCheckpointSaver[Any]]]:
    """The contenders by name, each with as many connections as the others, all opened beforehand."""
    async with (
        TransactionalSaver.from_conn_string(place.url, pool_min=connections, pool_max=connections) as ours,
        upstream(place.url, connections) as theirs,
    ):
        await ours.setup()
        yield {OURS: ours, UPSTREAM: theirs, MEMORY: InMemorySaver()}


def thread(name: str) -> RunnableConfig:
    """The configuration of a run on a thread."""
    return {"configurable": {"thread_id": name}, "recursion_limit": 1000}
