"""Whether the reads of a snapshot can write: the read-only subtransaction that they run in, and when it is left out.

A SELECT may call functions that write, by its own text, by a view, by a policy of row-level security. So reads run in
a subtransaction that is read-only, where the database refuses that. It costs a round trip of every commit, and work of
the server. It is left out where nothing of the kind is to be expected: if all that is asked in the transaction are
plain scans (`statements.scanned`: names, operators, and functions known to return one value) that the database has
answered before, in this process, when they could not write.

Super-steps that commit in one transaction have their subtransactions in any case, to be rolled back alone. What is left
out there is that it is read-only, and with that the round trip that ends it.

What is given up by that: a function behind a view or a policy that did not write the first time, and does so later, is
not refused then. What it writes is part of the super-step's transaction, and is there if and only if that commits.

A transaction that is not protected is over with the first statement that the database rejects. Then all is read again
in a protected one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.step.statements import scanned
from superstep.checkpointer.step.subtransaction import (
    BARE,
    LIMITED,
    MEND,
    NEXT,
    NEXT_WRITABLE,
    OPEN,
    OPEN_WRITABLE,
    PROTECTED,
    PROTECTION,
    WRITES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.recent import Recent
    from superstep.checkpointer.step.read_set import Read

    Log = Iterable[tuple[Any, Sequence[Read], Any]]  # as that of `replay`

__all__ = ["Protection", "ReadAgain"]

_WRITE = frozenset({"for", "insert", "update", "delete", "merge", "into"})  # FOR UPDATE and its like take locks


class ReadAgain(asyncpg.SerializationError):
    """A transaction without protection is over. As with others of this class, it succeeds when it is run again."""


class Protection:
    """Of one snapshot, in one transaction after the other.

    Args:
        harmless: statements that the database has answered where they could not write; shared by all snapshots.
        at_once: a transaction may have its end from its beginning: it never rests for that long.

    Attributes:
        is_on: the subtransaction is there, or has been left by `begin_writes` and can be rolled back to.
    """

    def __init__(self, harmless: Recent, *, at_once: bool) -> None:
        self.is_on = False
        self._at_once = at_once
        self._harmless = harmless
        self._always = False
        self._limited = False  # the transaction has an end if its process is paused
        self._is_writable = False  # what runs in the subtransaction

    def begin(self, log: Log, more: Iterable[str] | None, *, for_commit: bool, goes_on: bool = False) -> str:
        """What begins a transaction, or the super-step's part of one.

        Args:
            log: what is read in it again.
            more: what is read in it after that; `None` if it is not known, or if others are to go on in it.
            for_commit: nothing more, and writes follow.
            goes_on: it has begun, with other super-steps.
        """
        self._limited = for_commit or self._at_once
        is_harmless = self._can_do_without(_statements(log))
        self.is_on = goes_on or more is None or not (is_harmless and self._can_do_without(more))
        self._is_writable = self.is_on and for_commit and is_harmless
        if not self.is_on:
            return f"{BARE}; {LIMITED}" if self._limited else BARE
        if self._is_writable:
            return NEXT_WRITABLE if goes_on else OPEN_WRITABLE
        return NEXT if goes_on else OPEN

    def covers(self, statements: Iterable[str]) -> bool:
        """Whether these may be read as it is."""
        return (self.is_on and not self._is_writable) or self._can_do_without(statements)

    async def turn_on(self, conn: Connection) -> None:
        """From here on. If it fails, nobody knows whether the subtransaction is there: the transaction is of no use."""
        if not self.is_on:
            await conn.execute(PROTECTION)
            self.is_on, self._is_writable = True, False
        elif self._is_writable:
            await conn.execute(PROTECTED)
            self._is_writable = False

    async def mend(self, conn: Connection) -> None:
        """Back to where the subtransaction began, and protected from there on."""
        await conn.execute(MEND)
        self._is_writable = False

    def answered(self, sql: str) -> None:
        """The database has answered this statement."""
        if self.is_on and not self._is_writable and sql not in self._harmless and _may_be_harmless(sql):
            self._harmless.add(sql)

    def refuse_to_mend(self, sql: str = "") -> None:
        """Raise `ReadAgain` if the transaction cannot be repaired; this statement was rejected, if it is known."""
        if not self.is_on:
            self._always = True
            self._harmless.discard(sql)
            raise ReadAgain("a read without protection failed: it is made again with it")

    async def begin_writes(self, conn: Connection, *, goes_along: bool) -> None:
        """Let what follows write. `goes_along`: by one statement, which limits the time that its locks are held for."""
        if self.is_on:
            if not self._is_writable:
                await conn.execute(WRITES)
        elif not (self._limited or goes_along):
            await conn.execute(LIMITED)

    def _can_do_without(self, statements: Iterable[str | None]) -> bool:
        return not self._always and all(sql is not None and sql in self._harmless for sql in statements)


def _statements(log: Log) -> Iterator[str | None]:
    """Those of a log; none in place of one that is made on top of writes."""
    return (None if read.after else read.sql for _, reads, _ in log for read in reads)


def _may_be_harmless(sql: str) -> bool:
    words = scanned(sql)
    return words is not None and words.isdisjoint(_WRITE)
