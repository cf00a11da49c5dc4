"""Statements that get no answer: told apart from those that take long, and ended.

A connection can be dropped on its way (a firewall, a NAT, a proxy) without either end being told. TCP notices some of
that (`sockets`), not all: something in between may go on acknowledging. And a statement can wait for a lock that nobody
gives back. A time limit on statements would end both, and honest long ones too. So whoever waits longer than a moment
has the server asked, on another connection, what the backend is doing:

    at work                              nothing: a long statement is no wait
    waiting for a lock, for a minute     the statement is cancelled (SQLSTATE 57014)
    done, gone, waiting for its client   nothing is coming: after several such looks the connection is cut, and the
                                         backend ended, with the locks that it holds
    the server cannot be reached         the same

To cut a connection is always safe: every user of one handles its loss. Where the server cannot say it (behind a proxy
that shares servers among clients, backends have no known names; a pool may have no connection left to ask on), a
statement has five minutes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import DRIVER_ERRORS, cut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep.checkpointer.database.errors import Connection

    AnyConnection = asyncpg.Connection[asyncpg.Record] | Connection

__all__ = ["Watch"]

_FIRST_LOOK = 3.0  # seconds without an answer before the server is asked
_LOOK_AGAIN = 3.0  # seconds between looks
_LOOKS = 3  # looks in a row that find nothing coming
_LOCK_SECONDS = 60.0
_UNKNOWN_SECONDS = 300.0
_ASK_SECONDS = 5.0

_ASK = """
SELECT pid, state, state_change, wait_event_type, wait_event FROM pg_stat_activity WHERE pid = ANY ($1::int[])
"""
# Only if it has done nothing since it was asked about.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND state_change = $2"
_CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND state_change = $2"


@dataclass(slots=True)
class _Wait:
    """A connection in use.

    Attributes:
        conn: the connection.
        since: when its user began to wait.
        pauses: its user may do other things between statements, so that a backend which waits for its client says
            nothing.
        pid: of its backend, from the first look on; `None` if nobody can know.
        unknown: nobody can say what its backend does.
        seen: what the last look found.
        looks: how many looks in a row found the same.
    """

    conn: Connection
    since: float
    pauses: bool
    pid: int | None = None
    unknown: bool = False
    seen: object = None
    looks: int = 0


class Watch:
    """Looks after the connections of a pool that are in use. Costs two entries of a table as long as all is well.

    Args:
        pool: whose connections.
        pooled: whether a proxy stands in front of the server.
        ask: opens a connection of its own to the same server; by default one of the pool is taken.
        cut: called after a connection was cut. Others may have been dropped with it.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        pooled: bool = False,
        ask: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]] | None = None,
        cut: Callable[[], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._pooled = pooled
        self._ask = ask
        self._cut = cut
        self._waits: dict[int, _Wait] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    def begin(self, conn: Connection, *, pauses: bool = False) -> None:
        """Somebody uses the connection from now on, and waits for its answers. See `_Wait` for `pauses`."""
        self._waits[id(conn)] = _Wait(conn, time.monotonic(), pauses)
        if self._timer is None and self._looking is None:
            self._wake_in(_FIRST_LOOK)

    def end(self, conn: Connection) -> None:
        """Nobody waits for the connection any more."""
        self._waits.pop(id(conn), None)

    async def close(self) -> None:
        """Stop looking."""
        self._waits.clear()
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._waits:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        late = [wait for wait in self._waits.values() if time.monotonic() - wait.since >= _FIRST_LOOK]
        for wait in late:
            self._identify(wait)
        try:
            if known := [wait for wait in late if wait.pid is not None]:
                await self._compare(known)
            doomed = [wait for wait in late if self._is_waiting(wait) and self._is_over(wait)]
            for wait in doomed:
                self.end(wait.conn)
                cut(wait.conn)
            if doomed:
                await self._cut()
        finally:
            self._looking = None
            if self._waits:
                self._wake_in(_LOOK_AGAIN)

    def _identify(self, wait: _Wait) -> None:
        """Find out which backend it is. Most waits are over before the first look, so not earlier."""
        if wait.pid is None and not self._pooled:
            with suppress(asyncpg.InterfaceError):  # the driver knows that it is closed, and so will its user
                wait.pid = wait.conn.get_server_pid()
        if wait.pid is None:
            wait.unknown = True

    def _is_waiting(self, wait: _Wait) -> bool:
        return self._waits.get(id(wait.conn)) is wait

    def _is_over(self, wait: _Wait) -> bool:
        if wait.looks >= _LOOKS:
            return True
        return wait.unknown and not wait.pauses and time.monotonic() - wait.since >= _UNKNOWN_SECONDS

    async def _compare(self, late: list[_Wait]) -> None:
        """Ask what the backends do, and count how often it was nothing that will be answered."""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._on_own_connection(late)
        except asyncpg.PostgresError:  # the server is there, and does not say
            self._note(late, {}, unknown=True)
        except DRIVER_ERRORS:
            self._note(late, {}, unknown=self._ask is None)

    async def _on_own_connection(self, late: list[_Wait]) -> None:
        if self._ask is None:
            shared = await self._pool.acquire(timeout=_ASK_SECONDS)
            try:
                await self._compare_by(shared, late)
            finally:
                await self._pool.release(shared, timeout=_ASK_SECONDS)
        else:
            own = await self._ask()
            try:
                await self._compare_by(own, late)
            finally:
                own.terminate()

    async def _compare_by(self, conn: AnyConnection, late: list[_Wait]) -> None:
        rows = {row["pid"]: row for row in await conn.fetch(_ASK, [wait.pid for wait in late])}
        self._note(late, rows)
        for wait in late:
            row = rows.get(wait.pid)
            if row is None or not self._is_waiting(wait):
                continue
            if wait.looks >= _LOOKS:  # what it has locked would stay so until the server notices
                await conn.execute(_END, wait.pid, row["state_change"])
            elif row["wait_event_type"] == "Lock" and time.monotonic() - wait.since >= _LOCK_SECONDS:
                await conn.execute(_CANCEL, wait.pid, row["state_change"])

    def _note(self, late: list[_Wait], rows: dict[int | None, asyncpg.Record], *, unknown: bool = False) -> None:
        for wait in late:
            wait.unknown = unknown
            seen = None if unknown else _idle_since(rows.get(wait.pid), pauses=wait.pauses)
            wait.looks = 0 if seen is None else wait.looks + 1 if seen == wait.seen else 1
            wait.seen = seen


def _idle_since(row: asyncpg.Record | None, *, pauses: bool) -> object:
    """What shows that no answer is coming; `None` if one may. Looks with equal answers found no progress."""
    if row is None:
        return None if pauses else "gone"
    if row["state"] == "active":
        # The server waits for what its client sends: data for a COPY, which no user of ours has.
        return ("active", row["state_change"]) if row["wait_event"] == "ClientRead" else None
    return None if pauses else (row["state"], row["state_change"])
