"""Whether a read log holds in an open transaction: what it rests on is asked again, as far as it was not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from superstep.checkpointer.database.errors import (
    Connection,
    is_lost,
    is_serialization_failure,
    is_short_of_locks,
    read_error,
)
from superstep.checkpointer.step.answers import Answer
from superstep.checkpointer.step.log_order import key_of, rests_on_settings
from superstep.checkpointer.step.order import still_holds
from superstep.checkpointer.step.together import Asks, all_hold
from superstep.checkpointer.step.view import Viewed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superstep.checkpointer.database.recent import Recent
    from superstep.checkpointer.step.read_set import Read, Staged
    from superstep.checkpointer.step.task import Task
    from superstep.checkpointer.step.view import View

    Log = Iterable[tuple[Task, Sequence[Read], Sequence[Staged]]]

__all__ = ["Replay"]


class Transaction(Asks, Viewed, Protocol):
    """The open transaction, as `Snapshot` is one."""

    @property
    def connection(self) -> Connection:
        """Its connection."""

    @property
    def members(self) -> int:
        """Super-steps in it."""

    async def cover(self, statements: Iterable[str]) -> None:
        """Before these are read: see to it that they cannot write."""

    @property
    def view(self) -> View:
        """Staged writes that are applied in it."""

    async def ask(self, sql: str, args: Sequence[Any], view: Sequence[Staged] = ()) -> Answer:
        """What the database says to a read."""


class Replay:
    """What reads have returned in one transaction after the other.

    It does not keep the snapshot whose transactions they are, which keeps it: neither would be freed with its step.

    Attributes:
        moved: the reads that said something else in the latest `run`.
    """

    def __init__(self, apart: Recent) -> None:
        self.moved: list[tuple[Task, Read]] = []
        self._apart = apart
        self._seen: dict[tuple[Any, ...], Answer] = {}

    def clear(self) -> None:
        """Another transaction was begun."""
        self._seen.clear()

    def note(self, read: Read, answer: Answer, view: Sequence[Staged] = ()) -> None:
        """A read was made in the transaction."""
        self._seen[key_of(read, view)] = answer.without_rows

    async def run(self, transaction: Transaction, log: Log) -> list[Task]:
        """Run what of a log has not been read in the open transaction: the tasks for which it says something else.

        All of it, in its order, if the same question was answered in two ways: it rests on what was set in between.
        """
        self.moved = []
        log = [part for part in log if part[1]]
        if not log:
            return []
        in_order = rests_on_settings(log)
        if not in_order:
            await self._ask_together(transaction, log)
        moved: list[Task] = []
        for task, reads, view in log:
            for read in reads:
                if task in moved:
                    break
                key = key_of(read, view)
                if in_order or key not in self._seen:
                    self._seen[key] = await self._ask(transaction, read, view if read.after else ())
                if not await still_holds(transaction.connection, read, self._seen[key]):
                    moved.append(task)
                    self.moved.append((task, read))
        self._seen = {key: answer.without_rows for key, answer in self._seen.items()}
        return moved

    async def _ask_together(self, transaction: Transaction, log: Log) -> None:
        """Have all that were not asked here noted in one round trip, if they say what they said before."""
        new = {key: read for _, reads, view in log for read in reads if (key := key_of(read, view)) not in self._seen}
        if len(new) < 2:
            return
        await transaction.cover(read.sql for read in new.values())
        await transaction.view.show(transaction, ())
        if await all_hold(transaction, list(new.values()), self._apart):
            self._seen.update({key: Answer(read.digest) for key, read in new.items()})

    async def _ask(self, transaction: Transaction, read: Read, view: Sequence[Staged]) -> Answer:
        try:
            return await transaction.ask(read.sql, read.args, view)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            if is_serialization_failure(e) or is_lost(e, transaction.connection) or is_short_of_locks(e):
                raise
            if isinstance(e, asyncpg.LockNotAvailableError) and transaction.members > 1:
                raise  # those before it do not wait for that lock
            if getattr(e, "severity", None) is not None:  # the server could not say, such as a statement that timed out
                raise read_error(e, read.sql) from e
            await transaction.mend()
            return Answer(b"", error=e)  # the arguments do not fit any more: the statement is about something else now
