"""A transaction in which several super-steps commit, handed from one to the next.

Each works in a subtransaction of it: what it has read is validated after the writes of those before it, and it is
rolled back alone if that does not hold. Then it hands the transaction on, or commits it for all of them. So a member
waits with nothing in hand, and for nobody but those who have the transaction after it.

If the transaction fails, none of its members is committed; if the answer to COMMIT is lost, each looks for its own
checkpoint. Both as if it had been alone, only that the reason may be another one's: it then tries again alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.database.session import RESET

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.leases import Connections

__all__ = ["SharedTransaction"]


class SharedTransaction:
    """An open transaction, with what its members have written in it. Use on the home loop.

    Attributes:
        conn: its connection, of whoever has the transaction at the moment.
        began: when, at the latest, what was committed is seen in it.
        members: super-steps that have left their writes in it.
    """

    def __init__(self, conn: Connection, began: float) -> None:
        self.conn = conn
        self.began = began
        self.members = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def when_ended(self, tell: Callable[[bool], None]) -> None:
        """Have it told whether the transaction was committed."""
        self._ended.add_done_callback(lambda ended: tell(ended.exception() is None))

    def settle(self, error: BaseException | None = None) -> None:
        """It is committed; or it failed, or nothing is known of it."""
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
            return
        if not isinstance(error, DRIVER_ERRORS):  # such as a cancellation, which is that of one of them
            error = asyncpg.ConnectionDoesNotExistError("the transaction was given up half way")
        self._ended.set_exception(error)
        self._ended.exception()  # whoever waits is told; who has gone does not mind

    async def committed(self) -> None:
        """Wait until it is.

        Raises:
            One of `DRIVER_ERRORS`: it is not, or nothing is known of it.
        """
        await asyncio.shield(self._ended)

    async def commit(self, connections: Connections) -> None:
        """Commit it, for one who was handed it and adds nothing. Whoever waits for it is told how that went."""
        try:
            await self.conn.execute(f"COMMIT; {RESET}")
        except BaseException as e:
            self.settle(e)
            await connections.discard(self.conn)
            if not isinstance(e, DRIVER_ERRORS):
                raise
        else:
            self.settle()
            await connections.give_back(self.conn)
