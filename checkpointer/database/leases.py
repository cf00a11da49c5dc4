"""Who holds which connection: short loans, and the transactions that super-steps keep pinned between reads.

A pinned transaction is a convenience, never a right: the read log can rebuild it. So whenever a task waits for a
connection, the step that has been idle longest gives its own back. Because of that no step can starve another one, not
even with a pool of one connection and `hold_idle="forever"`. One that is likely to go on at once is left alone for a
moment (`pauses`): to build it again would cost more than to wait for it.

No wait for a connection is for ever. A queue that moves is waited in, however long it is; one in which nobody has given
a connection back for a minute ends in `PoolExhausted`. What holds a connection without getting an answer is ended by
`watch`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from superstep.checkpointer.database.errors import DRIVER_ERRORS, Connection, cut, is_closed
from superstep.checkpointer.database.pauses import GRACE, Pauses
from superstep.checkpointer.database.watch import Watch
from superstep.runtime.faults import PoolExhausted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg

__all__ = ["Connections", "Holder"]

_EXHAUSTED = 60.0  # seconds without any connection coming back
_GIVE_BACK = 5.0  # seconds that giving one back to the pool may take
_RETIRE = 200.0  # seconds without use: some clouds drop a connection after 240, without telling either end


class Holder(Protocol):
    """An owner that keeps a connection while idle and can give it back at any such moment."""

    conn: Connection | None

    async def release(self) -> None:
        """Give the connection back now, if still idle."""


class Connections:
    """The pool, and the idle holders in the order they became idle.

    With `keep`, connections stay checked out of asyncpg's pool between loans: acquiring and releasing there costs about
    as much as a small statement. Only for a pool that no other code uses.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        hold_idle: float,
        *,
        hold_max: float = float("inf"),
        keep: bool = False,
        pooled: bool = False,
        ask: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]] | None = None,
    ) -> None:
        self.pool = pool
        self.hold_idle = hold_idle
        self.hold_max = hold_max
        self.pauses = Pauses()
        self.watch = Watch(pool, pooled=pooled, ask=ask, cut=self._doubt)
        self._keep = keep
        self._pooled = pooled
        self._most = pool.get_max_size()
        self._lent = 0
        self._blocked = 0
        self._free: list[tuple[Connection, float]] = []  # with the time since when
        self._outdated = 0.0  # connections that were lent before this are not kept when they come back
        self._since: dict[Connection, float] = {}  # when those that are lent were lent
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._moved = 0.0  # when a connection last came back, or somebody began to wait while nobody else did
        self._limit: asyncio.TimerHandle | None = None
        self._idle: OrderedDict[Holder, float] = OrderedDict()  # with the time until when each is left alone
        self._reaper: asyncio.TimerHandle | None = None
        self._reaping: set[asyncio.Task[None]] = set()

    @property
    def wanted(self) -> bool:
        """Whether a task waits for a connection right now."""
        return bool(self._waiting or self._blocked)

    @property
    def is_pressing(self) -> bool:
        """Whether a task waits, and no connection has come back for so long that nobody may be left alone."""
        return self._blocked > 0 or (bool(self._waiting) and time.monotonic() - self._moved >= GRACE)

    @property
    def can_listen(self) -> bool:
        """Whether one may be kept to listen on: others are left, and a session is a connection's own."""
        return self._most > 1 and not self._pooled

    @property
    def lent(self) -> int:
        """Connections in use, those of idle super-steps included."""
        return self._lent

    async def acquire(self) -> Connection:
        """A connection; the longest idle holder gives up its own if there is none left.

        Raises:
            PoolExhausted: nobody has given one back for a minute.
        """
        while self._lent >= self._most:
            turn = asyncio.get_running_loop().create_future()
            self._queue(turn)
            try:
                await self._release_idle()
                await turn
            except BaseException:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif not turn.cancelled():
                    self._wake()  # it was our turn, and we do not take it
                raise
        self._lent += 1
        try:
            conn = self._kept() or await (self.pool.acquire() if self._keep else self._acquire_shared())
        except BaseException:
            self._returned()
            raise
        self.watch.begin(conn)
        self._since[conn] = time.monotonic()
        return conn

    def _kept(self) -> Connection | None:
        while self._free:
            conn, since = self._free.pop()
            if not is_closed(conn) and time.monotonic() - since < _RETIRE:
                return conn
            cut(conn)
        return None

    async def _acquire_shared(self) -> Connection:
        """From a pool that others use too: it may be empty although we have few of its connections."""
        if self.pool.get_idle_size() or self.pool.get_size() < self._most:
            return await self._acquire()
        self._blocked += 1
        try:
            await self._release_idle()
            return await self._acquire()
        finally:
            self._blocked -= 1

    async def _acquire(self) -> Connection:
        try:
            return await self.pool.acquire(timeout=_EXHAUSTED)
        except TimeoutError as e:
            raise self._exhausted() from e

    async def give_back(self, conn: Connection) -> None:
        """Return a connection that is in no transaction.

        Should it be in one all the same, it is closed: the next user's statements would be part of that.
        """
        self.watch.end(conn)
        if not is_closed(conn) and conn.is_in_transaction():
            cut(conn)
        self._returned()
        if self._since.pop(conn, 0.0) > self._outdated and self._keep and not is_closed(conn):
            self._free.append((conn, time.monotonic()))
        else:
            await self._release(conn)

    async def discard(self, conn: Connection) -> None:
        """Return a connection whose state is not known: it is closed, and the server rolls back."""
        self.watch.end(conn)
        self._returned()
        self._since.pop(conn, None)
        cut(conn)
        await self._release(conn)

    async def renew(self) -> None:
        """Replace all connections by new ones, which know types created meanwhile: those in use when they come back."""
        self._outdated = time.monotonic()
        await self.drop_free()
        await self.pool.expire_connections()

    async def drop_free(self) -> None:
        """Give kept connections back to the pool."""
        while self._free:
            await self._release(self._free.pop()[0])

    async def close(self) -> None:
        """Give kept connections back, those too that come later, and look after none any more."""
        self._keep = False
        if self._reaper is not None:
            self._reaper.cancel()
        await self.watch.close()
        await self.drop_free()

    async def _release(self, conn: Connection) -> None:
        with suppress(*DRIVER_ERRORS):  # the pool has cut it then, and makes another one when it is needed
            await self.pool.release(conn, timeout=_GIVE_BACK)

    async def _doubt(self) -> None:
        """A connection was dropped on its way. Free ones may have been too, and nothing tells: none is kept."""
        while self._free:
            cut(self._free.pop()[0])
        await self.pool.expire_connections()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """A connection for a moment, in autocommit."""
        conn = await self.acquire()
        try:
            yield conn
        finally:
            await self.end_loan(conn)

    async def end_loan(self, conn: Connection) -> None:
        """As `give_back`, which goes on if the task is cancelled meanwhile."""
        if self._keep:
            await self.give_back(conn)
        else:
            await asyncio.shield(self.give_back(conn))

    async def _release_idle(self) -> None:
        """Have the longest idle holder give its connection up, as soon as there is one that is not left alone."""
        if (holder := self._next_idle()) is not None:
            await holder.release()
        else:
            self._reap_later()

    def _next_idle(self) -> Holder | None:
        now = time.monotonic()
        found = next((holder for holder, until in self._idle.items() if until <= now), None)
        if found is not None:
            del self._idle[found]
        return found

    def _reap_later(self) -> None:
        if self._idle and self._reaper is None:
            wait = min(self._idle.values()) - time.monotonic()
            self._reaper = asyncio.get_running_loop().call_later(max(wait, 0), self._reap)

    def _reap(self) -> None:
        """Some were left alone, and did not go on: those who wait get their connections."""
        self._reaper = None
        wanted = len(self._waiting) + self._blocked
        while wanted and (holder := self._next_idle()) is not None:
            wanted -= 1
            task = asyncio.get_running_loop().create_task(holder.release())
            self._reaping.add(task)
            task.add_done_callback(self._reaping.discard)
        if wanted:
            self._reap_later()

    def idle(self, holder: Holder, *, for_a_moment: bool = False) -> None:
        """`holder` keeps its connection but does not use it at the moment, or only for a moment."""
        self._idle[holder] = time.monotonic() + GRACE if for_a_moment else 0.0
        if holder.conn is not None:
            self.watch.end(holder.conn)
        if self.wanted:
            self._reap_later()

    def busy(self, holder: Holder) -> None:
        """`holder` uses its connection, or has none any more."""
        if holder in self._idle:
            del self._idle[holder]
            if holder.conn is not None:
                self.watch.begin(holder.conn)

    def _queue(self, turn: asyncio.Future[None]) -> None:
        if not self._waiting:
            self._moved = time.monotonic()
        self._waiting.append(turn)
        if self._limit is None:
            self._limit = asyncio.get_running_loop().call_later(_EXHAUSTED, self._look_at_queue)

    def _look_at_queue(self) -> None:
        self._limit = None
        if not self._waiting:
            return
        left = self._moved + _EXHAUSTED - time.monotonic()
        if left > 0:
            self._limit = asyncio.get_running_loop().call_later(left, self._look_at_queue)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(self._exhausted())

    def _exhausted(self) -> PoolExhausted:
        return PoolExhausted(
            f"All {self._most} connections of the pool were in use, and none came back for {_EXHAUSTED:.0f} s. Find "
            f"what holds them (transactions of your own, long statements, other users of the pool), or raise pool_max."
        )

    def _returned(self) -> None:
        self._lent -= 1
        self._moved = time.monotonic()
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
