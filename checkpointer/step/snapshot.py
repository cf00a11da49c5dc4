"""The transaction that all reads of a super-step see, held between reads or given back and taken again.

*One snapshot.* All reads of all tasks go through one SERIALIZABLE transaction, one after the other (`lock`). When that
transaction was given back (`Connections`), the next `pin` opens another and first runs the whole read log again. Rows
that come back the same make the newer snapshot indistinguishable from the older one, for every task (snapshot
extension, as in the LSA and TL2 software transactional memories). Tasks whose rows differ have drifted.

*Reads cannot write.* Reads run in a subtransaction that is read-only; ROLLBACK TO it ends that, keeps the snapshot, and
also repairs the transaction after a read the database rejected. The snapshot is taken before read-only is set, since
SSI decides at that moment whether to treat a transaction as read-only for good.

    CLOSED ── acquire ──▶ BARE ── begin, log holds ──▶ OPEN ◀── mend ── DIRTY (a statement failed or was cancelled)
       ▲                   ▲ └─── log moved: roll back ──┘ └──────────────▲
       └── given back ─────┴─────── lost, committed, released ──────────── from every state
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    Connection,
    cut,
    is_closed,
    is_lost,
    is_serialization_failure,
    is_short_of_locks,
    is_unusable,
    read_error,
    short,
)
from superstep.checkpointer.database.session import RESET, RESET_ALL
from superstep.checkpointer.step.answers import Answer, rejected, returned
from superstep.checkpointer.step.log_order import key_of, rests_on_settings
from superstep.checkpointer.step.order import still_holds
from superstep.checkpointer.step.snapshot_state import ALLOWED, SnapshotState
from superstep.checkpointer.step.staged_statement import execute_alike, execute_staged
from superstep.checkpointer.step.statements import sets_session, writes_rows
from superstep.checkpointer.step.transitions import illegal_transition
from superstep.runtime.faults import StatementRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.step.read_set import Read, Staged
    from superstep.checkpointer.step.task import Task

    Log = Iterable[tuple[Task, Sequence[Read], Sequence[Staged]]]

__all__ = ["Snapshot", "SnapshotState"]

_OPEN = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; SAVEPOINT reads; SET LOCAL transaction_read_only = on"
_UNPROTECTED = "ROLLBACK TO SAVEPOINT reads"
_PROTECTED = "SET LOCAL transaction_read_only = on"
_MEND = f"{_UNPROTECTED}; {_PROTECTED}"
# From here on the transaction takes locks. A process that is paused now must not keep others out for ever.
_WRITES = f"{_UNPROTECTED}; SET LOCAL idle_in_transaction_session_timeout = '60s'"
_ROLLBACK_SECONDS = 5.0  # on a connection that was perhaps dropped; the server rolls back by itself when it is cut


class Snapshot:
    """See the module. All methods but `release` and `close` are called with `lock` held.

    Attributes:
        lock: one user of the transaction at a time.
        state: see `SnapshotState`.
        conn: the connection, unless CLOSED.
        moved: the reads that said something else when the log was last replayed.
        asks_again: something in the log rests on what no transaction covers (`Answer.of_catalog`): the commit must not
            be that of the transaction it was read in.
    """

    def __init__(self, database: Database) -> None:
        self.lock = asyncio.Lock()
        self.state = SnapshotState.CLOSED
        self.conn: Connection | None = None
        self.moved: list[tuple[Task, Read]] = []
        self.asks_again = False
        self._database = database
        self._connections = database.connections
        self._timer: asyncio.TimerHandle | None = None
        self._view: Sequence[Staged] = ()  # staged writes that are applied at the moment, for reads on top of them
        self._seen: dict[tuple[Any, ...], Answer] = {}  # what reads have returned in the open transaction
        self._opened = 0.0  # when the transaction was begun
        self._settings: list[tuple[str, Sequence[Any]]] = []  # reads that have set something, undone by a roll-back
        self._reset = RESET  # of what its statements can have left in the session, when it ends

    @property
    def is_held(self) -> bool:
        """Whether the transaction of the reads so far is still there."""
        return self._is_open and not self.asks_again and not self._is_old

    @property
    def _is_open(self) -> bool:
        return self.state in (SnapshotState.OPEN, SnapshotState.DIRTY)

    @property
    def _is_old(self) -> bool:
        """Whether it must not be used any more.

        What the server knows of conflicts with a transaction is summed up, and gets holes, once thousands have
        committed beside it.
        """
        return time.monotonic() - self._opened >= self._connections.hold_max

    async def pin(self, log: Log, others: Log = ()) -> list[Task]:
        """Make the snapshot OPEN, if a whole log holds in it.

        Args:
            log: reads that were made in this snapshot, by task, with the staged writes that those marked `after` were
                made on top of. Replayed if a transaction has to be opened.
            others: reads that were made elsewhere. Replayed in any case, unless this transaction has read the same.

        Returns:
            The tasks for which the log says something else now. With any, the snapshot is BARE: taking results back
            happens outside its transaction and on this very connection, since a step that waited for a second one could
            wait for ever.
        """
        self._connections.busy(self)
        self._stop_timer()
        if self.state is SnapshotState.DIRTY:
            await self._mend()
        if self.state is SnapshotState.CLOSED:
            self.conn = await self._connections.acquire()
            self._become(SnapshotState.BARE)
        try:
            if self._is_open and self._is_old:
                await self.roll_back()
            if self.state is SnapshotState.BARE:
                await self._open(self._connection())
                moved = await self._replay([*log, *others])
            else:
                moved = await self._replay(others)
            if moved:
                await self.roll_back()
        except BaseException as e:
            await self.lost(e)  # failed or cancelled half way: the state of the transaction is not known any more
            raise
        return moved

    def note(self, read: Read, answer: Answer, view: Sequence[Staged] = ()) -> None:
        """A read was made in the open transaction."""
        self._seen[key_of(read, view)] = answer.without_rows

    async def ask(self, sql: str, args: Sequence[Any], view: Sequence[Staged] = ()) -> Answer:
        """What the database says to a read in the open transaction, a rejection included. See `answers`.

        Args:
            sql: the read.
            args: its arguments.
            view: staged writes to read on top of: applied for the read, and never kept.
        """
        await self._look(view)
        try:
            rows = await self.fetch(sql, args)
        except StatementRefused:
            raise
        except Exception as e:  # a codec of the user's own may raise anything
            answer = rejected(sql, e)
            if answer is None:
                raise
            await self._mend()
            self.asks_again = self.asks_again or answer.of_catalog
            return answer
        if sets_session(sql):
            self._settings.append((sql, args))
        return await returned(sql, rows)

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        """Rows of a statement in the open transaction.

        Raises:
            StatementRefused: the statement ended the transaction. The connection is given up with it.
        """
        conn = self._connection()
        try:
            return await self._fetch(conn, sql, args)
        except asyncpg.InvalidCachedStatementError:  # a table was altered; the driver has dropped its plan meanwhile
            await self._mend()
            return await self._fetch(conn, sql, args)

    async def _fetch(self, conn: Connection, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            rows = await conn.fetch(sql, *args)
        except BaseException:
            if self.state is SnapshotState.OPEN:
                self._become(SnapshotState.DIRTY)  # the subtransaction of the reads is aborted
            raise
        await self.check_open(sql)
        return rows

    async def check_open(self, sql: str) -> None:
        """After a statement of the user's: the transaction is still there. The server said so with its answer.

        Raises:
            StatementRefused: the statement got past the guards of `statements` and ended it. The connection is closed:
                nothing may go on as if the transaction were ours.
        """
        conn = self._connection()
        if conn.is_in_transaction():
            return
        self._leave()
        await self._connections.discard(conn)
        raise StatementRefused(
            f"A statement ended the transaction of its super-step: {short(sql)}. Its connection was closed. Take the "
            f"transaction control out of the statement."
        )

    async def begin_writes(self) -> Connection:
        """Leave the subtransaction of the reads, for the commit's writes: their snapshot stays."""
        conn = self._connection()
        await conn.execute(_WRITES)
        self._view = ()
        return conn

    async def rest(self) -> None:
        """Between reads: keep the transaction for a while, unless a task waits for its connection."""
        if self.state is SnapshotState.CLOSED:
            return
        if self._connections.hold_idle == 0 or self._connections.wanted:
            await self._give_back()
            return
        self._connections.idle(self)
        seconds = min(self._connections.hold_idle, self._opened + self._connections.hold_max - time.monotonic())
        if seconds != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._database.home.spawn, self.release)

    async def release(self) -> None:
        """Roll back and give the connection back. Nothing is lost: the read log says what was seen."""
        async with self.lock:
            await self._give_back()

    async def close(self) -> None:
        """Give the transaction up, even if nobody waits for its connection."""
        self._stop_timer()
        await self.release()

    async def roll_back(self) -> Connection:
        """End the transaction and keep the connection, for statements that must not be part of it."""
        conn = self._connection()
        await conn.execute(f"ROLLBACK; {self._reset}")
        self._reset = RESET
        self._become(SnapshotState.BARE)
        return conn

    async def execute_staged(self, staged: Staged) -> str:
        """Apply a staged write in the open transaction: the command tag."""
        if not writes_rows(staged.sql):
            self._reset = RESET_ALL
        return await execute_staged(self._connection(), staged)

    async def execute_alike(self, staged: Sequence[Staged]) -> None:
        """Apply staged writes of one statement in the open transaction."""
        if not writes_rows(staged[0].sql):
            self._reset = RESET_ALL
        await execute_alike(self._connection(), staged)

    @property
    def commit(self) -> str:
        """What commits the transaction, and ends what its statements have left in the session."""
        return f"COMMIT; {self._reset}"

    async def lost(self, error: BaseException | None = None) -> None:
        """The transaction failed, by this error if it is known; the next `pin` opens another."""
        if self.conn is not None and error is not None and is_unusable(error):
            cut(self.conn)
        if self.conn is not None and is_closed(self.conn):
            await self._connections.give_back(self._leave())  # the pool replaces a closed connection
        else:
            await self._give_back()

    async def committed(self) -> None:
        """The transaction was committed."""
        await self._connections.give_back(self._leave())

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _open(self, conn: Connection) -> None:
        self._seen.clear()
        self._settings.clear()
        self._view = ()
        self._reset = RESET
        self._opened = time.monotonic()
        self._become(SnapshotState.OPEN)  # at once: a call that is cancelled may have begun it all the same
        await conn.execute(_OPEN)
        await failpoints.hit("step.pinned")

    async def _replay(self, log: Log) -> list[Task]:
        """Run what of a log has not been read in this transaction: the tasks for which it says something else.

        All of it, in its order, if the same question was answered in two ways: it rests on what was set in between.
        """
        log = list(log)
        in_order = rests_on_settings(log)
        moved: list[Task] = []
        self.moved = []
        for task, reads, view in log:
            for read in reads:
                if task in moved:
                    break
                key = key_of(read, view)
                if in_order or key not in self._seen:
                    self._seen[key] = await self._ask_again(read, view if read.after else ())
                if not await still_holds(self._connection(), read, self._seen[key]):
                    moved.append(task)
                    self.moved.append((task, read))
        self._seen = {key: answer.without_rows for key, answer in self._seen.items()}
        return moved

    async def _ask_again(self, read: Read, view: Sequence[Staged]) -> Answer:
        try:
            return await self.ask(read.sql, read.args, view)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            if is_serialization_failure(e) or is_lost(e, self.conn) or is_short_of_locks(e):
                raise
            if getattr(e, "severity", None) is not None:  # the server could not say, such as a statement that timed out
                raise read_error(e, read.sql) from e
            await self._mend()
            return Answer(b"", error=e)  # the arguments do not fit any more: the statement is about something else now

    async def _look(self, view: Sequence[Staged]) -> None:
        """Have these staged writes applied, and no others, for reads on top of them.

        A write that the database rejects leaves its reads without: the commit will reject it by name.
        """
        if list(map(id, view)) == list(map(id, self._view)):
            return
        if self._view:
            await self._mend()
        if not view:
            return
        conn, self._view = self._connection(), tuple(view)
        try:
            await conn.execute(_UNPROTECTED)
            for staged in view:
                await self.execute_staged(staged)
                await self.check_open(staged.sql)
            await conn.execute(_PROTECTED)
        except StatementRefused:
            raise
        except BaseException as e:
            self._become(SnapshotState.DIRTY)
            self._view = ()
            if not isinstance(e, asyncpg.PostgresError) or is_serialization_failure(e) or is_lost(e, conn):
                raise
            await self._mend()

    async def _mend(self) -> None:
        if self.state is SnapshotState.OPEN:  # with writes of a view in it
            self._become(SnapshotState.DIRTY)
        conn = self._connection()
        await conn.execute(_MEND)
        for sql, args in self._settings:
            await conn.fetch(sql, *args)
        self._view = ()
        self._become(SnapshotState.OPEN)

    async def _give_back(self) -> None:
        if self.state is SnapshotState.CLOSED:
            return
        in_transaction = self.state is not SnapshotState.BARE
        conn = self._leave()
        try:
            if in_transaction:
                await conn.execute(f"ROLLBACK; {self._reset}", timeout=_ROLLBACK_SECONDS)
        except DRIVER_ERRORS:
            await self._connections.discard(conn)
        except BaseException:  # cancelled: the connection must not be lost with us
            await self._connections.discard(conn)
            raise
        else:
            await self._connections.give_back(conn)

    def _leave(self) -> Connection:
        """Part with the connection; what becomes of it is the caller's to see to."""
        conn, self.conn = self._connection(), None
        self._connections.busy(self)
        self._become(SnapshotState.CLOSED)
        return conn

    def _connection(self) -> Connection:
        if self.conn is None:
            raise AssertionError("a snapshot without a connection was used")
        return self.conn

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _become(self, state: SnapshotState) -> None:
        if state not in ALLOWED[self.state]:
            raise illegal_transition(self.state, state, "A snapshot")
        self.state = state
