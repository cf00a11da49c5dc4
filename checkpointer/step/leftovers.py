"""What statements of one transaction leave behind: settings within it, and state of the session after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database.session import RESET, RESET_ALL
from superstep.checkpointer.step.statements import sets_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["Leftovers"]


class Leftovers:
    """Of the transaction that is open.

    Attributes:
        reset: what takes from the session whatever its statements can have left there, sent along with its end.
    """

    def __init__(self) -> None:
        self.reset = RESET
        self._settings: list[tuple[str, Sequence[Any]]] = []

    def begin(self) -> None:
        """The transaction begins, on a clean session."""
        self.reset = RESET
        self._settings.clear()

    def note_read(self, sql: str, args: Sequence[Any]) -> None:
        """A read has been made."""
        if sets_session(sql):
            self._settings.append((sql, args))

    def note_write(self, staged: Staged) -> None:
        """A staged write is applied."""
        if not staged.writes_rows:
            self.reset = RESET_ALL

    async def set_again(self, conn: Connection) -> None:
        """After a roll-back to the beginning of the reads, which has undone what they had set."""
        for sql, args in self._settings:
            await conn.fetch(sql, *args)
