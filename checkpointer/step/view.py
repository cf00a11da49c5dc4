"""Staged writes that are applied in a snapshot's transaction for reads on top of them, and taken back after that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import asyncpg

from superstep.checkpointer.database.errors import is_lost, is_serialization_failure
from superstep.checkpointer.step.subtransaction import PROTECTED, UNPROTECTED
from superstep.runtime.faults import RuntimeFault, StatementRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.shared.reductions import Reductions
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["View", "Viewed"]


class Viewed(Protocol):
    """The open transaction, as `Snapshot` is one. See there."""

    @property
    def connection(self) -> Connection:
        """Its connection."""

    async def protect(self) -> None:
        """What is read from here on cannot write."""

    async def execute_staged(self, staged: Staged) -> str:
        """Apply a staged write."""

    async def check_open(self, sql: str) -> None:
        """After a statement of the user's: it is still there."""

    def spoil(self) -> None:
        """A statement has failed."""

    async def mend(self) -> None:
        """Go on after that, or take what was applied back."""


class View:
    """Of one snapshot, whose transaction is protected while there is anything in it."""

    def __init__(self, reductions: Reductions | None) -> None:
        self._reductions = reductions
        self._staged: Sequence[Staged] = ()

    def clear(self) -> None:
        """Nothing is applied any more."""
        self._staged = ()
        if self._reductions is not None:
            self._reductions.clear()

    async def show(self, snapshot: Viewed, staged: Sequence[Staged]) -> None:
        """Have these applied, and no others.

        A write that the database rejects leaves its reads without: the commit will reject it by name.
        """
        if list(map(id, staged)) == list(map(id, self._staged)):
            return
        if self._staged:
            await snapshot.mend()
        if staged:
            await snapshot.protect()
            await self._apply(snapshot, staged)

    async def _apply(self, snapshot: Viewed, view: Sequence[Staged]) -> None:
        conn, self._staged = snapshot.connection, tuple(view)
        try:
            await conn.execute(UNPROTECTED)
            for staged in view:
                await snapshot.execute_staged(staged)
                await snapshot.check_open(staged.sql)
            await conn.execute(PROTECTED)
        except StatementRefused:
            raise
        except BaseException as e:
            snapshot.spoil()
            self.clear()
            rejected = isinstance(e, asyncpg.PostgresError | RuntimeFault)
            if not rejected or is_serialization_failure(e) or is_lost(e, conn):
                raise
            await snapshot.mend()
