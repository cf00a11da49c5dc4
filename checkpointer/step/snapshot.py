"""The transaction that all reads of a super-step see, held between reads or given back and taken again.

*One snapshot.* All reads of all tasks go through one SERIALIZABLE transaction, one after the other (`lock`). When that
transaction was given back (`Connections`), the next `pin` opens another and first runs the whole read log again. Rows
that come back the same make the newer snapshot indistinguishable from the older one, for every task (snapshot
extension, as in the LSA and TL2 software transactional memories). Tasks whose rows differ have drifted.

*Reads cannot write.* Reads run in a subtransaction that is read-only (`subtransaction`), unless they are known to do no
harm (`protection`); ROLLBACK TO it ends that, keeps the snapshot, and also repairs the transaction after a read the
database rejected.

*Several super-steps may commit in one transaction* (`shared`). The next one adopts it, and begins a subtransaction of
its own. If it rolls back, those before it are committed, once the server has said that this subtransaction has begun.

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
    ended_transaction,
    is_closed,
    is_unusable,
)
from superstep.checkpointer.step.answers import Answer, rejected, returned
from superstep.checkpointer.step.leftovers import Leftovers
from superstep.checkpointer.step.protection import Protection
from superstep.checkpointer.step.replay import Replay
from superstep.checkpointer.step.rest import Rest
from superstep.checkpointer.step.shared import SharedTransaction
from superstep.checkpointer.step.snapshot_state import ALLOWED, SnapshotState, leaves_bare
from superstep.checkpointer.step.staged_statement import execute_alike, execute_staged
from superstep.checkpointer.step.subtransaction import LIMIT, ROLLED_BACK
from superstep.checkpointer.step.transitions import illegal_transition
from superstep.checkpointer.step.view import View
from superstep.runtime.faults import StatementRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.shared.reductions import Reductions
    from superstep.checkpointer.step.read_set import Staged
    from superstep.checkpointer.step.replay import Log
    from superstep.checkpointer.step.task import Task

__all__ = ["Snapshot", "SnapshotState"]

_ROLLBACK_SECONDS = 5.0  # on a connection that was perhaps dropped; the server rolls back by itself when it is cut


class Snapshot:
    """See the module. All methods but `release` and `close` are called with `lock` held.

    Attributes:
        lock: one user of the transaction at a time.
        state: see `SnapshotState`.
        conn: the connection, unless CLOSED.
        replay: of what reads in its transaction have said.
        asks_again: something in the log rests on what no transaction covers (`Answer.of_catalog`): the commit must not
            be that of the transaction it was read in.
        began: when the transaction was: whatever was committed before is seen in it.
    """

    def __init__(self, database: Database, reductions: Reductions | None = None) -> None:
        self.lock = asyncio.Lock()
        self.state = SnapshotState.CLOSED
        self.conn: Connection | None = None
        self.replay = Replay(database.apart)
        self.asks_again = False
        self.began = 0.0
        self._shared: SharedTransaction | None = None
        self._connections = database.connections
        self._rest = Rest(database)
        self._reductions = reductions
        self.protection = Protection(database.harmless, at_once=database.connections.hold_idle < LIMIT)
        self.view = View(reductions)
        self._leftovers = Leftovers()

    @property
    def is_held(self) -> bool:
        """Whether the transaction of the reads so far is still there."""
        is_over = self.state is SnapshotState.DIRTY and not self.protection.is_on
        return self._is_open and not (is_over or self.asks_again or self._is_old)

    @property
    def _is_open(self) -> bool:
        return self.state in (SnapshotState.OPEN, SnapshotState.DIRTY)

    @property
    def _is_old(self) -> bool:
        """Whether it must not be used any more."""
        # What the server knows of conflicts with a transaction gets holes once thousands have committed beside it.
        return time.monotonic() - self.began >= self._connections.hold_max

    async def pin(
        self, log: Log, others: Log = (), more: Iterable[str] | None = None, *, for_commit: bool = False
    ) -> list[Task]:
        """Make the snapshot OPEN, if a whole log holds in it.

        Args:
            log: reads that were made in this snapshot, by task, with the staged writes that those marked `after` were
                made on top of. Replayed if a transaction has to be opened.
            others: reads that were made elsewhere. Replayed in any case, unless this transaction has read the same.
            more: see `Protection.begin`.
            for_commit: see there.

        Returns:
            The tasks for which the log says something else now. With any, the snapshot is BARE: results are taken back
            on this very connection, since a step that waited for a second one could wait for ever.
        """
        self._rest.end(self)
        if self.state is SnapshotState.DIRTY:
            await (self.mend() if self.protection.is_on else self.roll_back())
        if self.state is SnapshotState.CLOSED:
            self.conn = await self._connections.acquire()
            self._become(SnapshotState.BARE)
        try:
            if self._is_open and self._is_old:
                await self.roll_back()
            if self.state is SnapshotState.BARE:
                log = [*log, *others]
                goes_on = self._shared is not None
                begin = self.protection.begin(log, more, for_commit=for_commit, goes_on=goes_on)
                await self._open(self.connection, begin)
                moved = await self.replay.run(self, log)
            else:
                moved = await self.replay.run(self, others)
            if moved:
                await self.roll_back()
        except BaseException as e:
            await self.lost(e)  # failed or cancelled half way: the state of the transaction is not known any more
            raise
        return moved

    async def ask(self, sql: str, args: Sequence[Any], view: Sequence[Staged] = ()) -> Answer:
        """What the database says to a read in the open transaction, a rejection included. See `answers`.

        Args:
            sql: the read.
            args: its arguments.
            view: staged writes to read on top of: applied for the read, and never kept.
        """
        await self.cover((sql,))
        await self.view.show(self, view)
        try:
            rows = await self.fetch(sql, args)
        except StatementRefused:
            raise
        except Exception as e:  # a codec of the user's own may raise anything
            answer = rejected(sql, e)
            if answer is None:
                raise
            self.protection.refuse_to_mend(sql)
            await self.mend()
            self.asks_again = self.asks_again or answer.of_catalog
            return answer
        self.protection.answered(sql)
        self._leftovers.note_read(sql, args)
        return await returned(sql, rows)

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        """Rows of a statement in the open transaction.

        Raises:
            StatementRefused: the statement ended the transaction. The connection is given up with it.
        """
        conn = self.connection
        try:
            return await self._fetch(conn, sql, args)
        except asyncpg.InvalidCachedStatementError:  # a table was altered; the driver has dropped its plan meanwhile
            await self.mend()
            return await self._fetch(conn, sql, args)

    async def _fetch(self, conn: Connection, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            rows = await conn.fetch(sql, *args)
        except BaseException:
            self.spoil()
            raise
        await self.check_open(sql)
        return rows

    def spoil(self) -> None:
        """A statement has failed: the subtransaction of the reads is aborted, or all."""
        if self.state is SnapshotState.OPEN:
            self._become(SnapshotState.DIRTY)

    async def check_open(self, sql: str) -> None:
        """After a statement of the user's: the transaction is still there. The server said so with its answer.

        Raises:
            StatementRefused: the statement got past the guards of `statements` and ended it. The connection is closed:
                nothing may go on as if the transaction were ours.
        """
        conn = self.connection
        if conn.is_in_transaction():
            return
        self._leave()
        await self._connections.discard(conn)
        raise ended_transaction(sql)

    async def cover(self, statements: Iterable[str]) -> None:
        """Before these are read: see to it that they cannot write, unless they are known not to."""
        if not self.protection.covers(statements):
            await self.protect()

    async def protect(self) -> None:
        """From here on, what is read in the transaction cannot write."""
        try:
            await self.protection.turn_on(self.connection)
        except BaseException:
            self.spoil()  # whether it has begun is not known
            raise

    async def begin_writes(self, *, goes_along: bool = False) -> None:
        """Leave the subtransaction of the reads, for the commit's writes: their snapshot stays. See `Protection`."""
        await self.protection.begin_writes(self.connection, goes_along=goes_along)
        self.view.clear()

    async def rest(self, after: str, *, briefly: bool = False) -> None:
        """After this read: keep the transaction for a while, unless a task waits for its connection."""
        if self.state is SnapshotState.CLOSED:
            return
        if not self._rest.begin(self, after, self.began, briefly=briefly):
            await self._give_back()

    async def release(self) -> None:
        """Roll back and give the connection back. Nothing is lost: the read log says what was seen."""
        async with self.lock:
            await self._give_back()

    async def close(self) -> None:
        """Give the transaction up, even if nobody waits for its connection."""
        self._rest.stop()
        await self.release()

    async def roll_back(self) -> Connection:
        """End the transaction and keep the connection, for statements that must not be part of it."""
        await self._end(self._rolled_back)
        self._leftovers.begin()
        self._become(SnapshotState.BARE)
        return self.connection

    async def execute_staged(self, staged: Staged) -> str:
        """Apply a staged write in the open transaction: the command tag."""
        self._leftovers.note_write(staged)
        return await execute_staged(self.connection, staged, self._reductions)

    async def execute_alike(self, staged: Sequence[Staged]) -> None:
        """Apply staged writes of one statement in the open transaction."""
        self._leftovers.note_write(staged[0])
        await execute_alike(self.connection, staged)

    def adopt(self, shared: SharedTransaction) -> None:
        """Work in this transaction, from the next `pin` on: in place of one of its own, and after what is in it."""
        self.conn, self._shared = shared.conn, shared
        self._become(SnapshotState.BARE)

    def hand_on(self) -> SharedTransaction:
        """Leave the transaction with what was written in it to whoever adopts it, or commits it."""
        shared = self._shared or SharedTransaction(self.connection, self.began)
        shared.members += 1
        self._shared = None
        self._leave()
        return shared

    @property
    def members(self) -> int:
        """Super-steps in the transaction, this one included."""
        return 1 + (self._shared.members if self._shared is not None else 0)

    async def commit(self) -> None:
        """Commit the transaction, for all that have work in it. What statements have left in the session goes."""
        await self._end(f"COMMIT; {self._leftovers.reset}")
        await self._connections.give_back(self._leave())

    async def lost(self, error: BaseException | None = None) -> None:
        """The transaction failed, by this error if it is known; the next `pin` opens another."""
        if self.conn is not None and error is not None and (is_unusable(error) or leaves_bare(error, self.state)):
            cut(self.conn)
        if self.conn is not None and is_closed(self.conn):
            await self._connections.give_back(self._leave())  # the pool replaces a closed connection
        else:
            await self._give_back()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _open(self, conn: Connection, begin: str) -> None:
        self.replay.clear()
        self._leftovers.begin()
        self.view.clear()
        self.began = time.monotonic() if self._shared is None else self._shared.began
        self._become(SnapshotState.OPEN)  # at once: a call that is cancelled may have begun it all the same
        try:
            await conn.execute(begin)
        except BaseException as e:
            if self._shared is not None:  # whose subtransaction it is now is not known: none may be committed
                self._settle(e)
                await self._connections.discard(self._leave())
            raise
        await failpoints.hit("step.pinned")

    async def mend(self) -> None:
        """Go on after a statement that failed, or take staged writes back that reads were made on top of.

        Raises:
            ReadAgain: one has failed without protection.
        """
        if self.state is SnapshotState.OPEN:  # with writes of a view in it
            if not self.protection.is_on:
                return  # without: nothing was set or written
            self._become(SnapshotState.DIRTY)
        self.protection.refuse_to_mend()
        conn = self.connection
        await self.protection.mend(conn)
        await self._leftovers.set_again(conn)
        self.view.clear()
        self._become(SnapshotState.OPEN)

    async def _give_back(self) -> None:
        if self.state is SnapshotState.CLOSED:
            return
        text, shared, self._shared = self._rolled_back, self._shared, None
        in_transaction = shared is not None or self.state is not SnapshotState.BARE
        conn = self._leave()
        try:
            if in_transaction:
                await conn.execute(text, timeout=_ROLLBACK_SECONDS)
        except BaseException as e:  # cancelled too: the connection must not be lost with us
            if shared is not None:
                shared.settle(e)
            await self._connections.discard(conn)
            if not isinstance(e, DRIVER_ERRORS):
                raise
            return
        if shared is not None:
            shared.settle()
        await self._connections.give_back(conn)

    @property
    def _rolled_back(self) -> str:
        """What ends the transaction without anything of this super-step."""
        if self._shared is None:
            return f"ROLLBACK; {self._leftovers.reset}"
        return f"{ROLLED_BACK if self._is_open else 'COMMIT'}; {self._leftovers.reset}"

    async def _end(self, text: str) -> None:
        """End the transaction, and tell those who have work in it."""
        try:
            await self.connection.execute(text)
        except BaseException as e:
            self._settle(e)
            raise
        self._settle()

    def _settle(self, error: BaseException | None = None) -> None:
        """Those before this one are committed, or they are not."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.settle(error)

    def _leave(self) -> Connection:
        """Part with the connection; what becomes of it is the caller's to see to."""
        conn, self.conn = self.connection, None
        self._settle(asyncpg.ConnectionDoesNotExistError("the connection was closed"))
        self._connections.busy(self)
        self._become(SnapshotState.CLOSED)
        return conn

    @property
    def connection(self) -> Connection:
        """The connection, which there must be."""
        if self.conn is None:
            raise AssertionError("a snapshot without a connection was used")
        return self.conn

    def _become(self, state: SnapshotState) -> None:
        if state not in ALLOWED[self.state]:
            raise illegal_transition(self.state, state, "A snapshot")
        self.state = state
