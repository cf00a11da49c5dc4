"""The race of most tests: a node reads, its facts move once, the node stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer import current_step
from tests.support.bank import BALANCE, DEBIT
from tests.support.internals import from_thread

if TYPE_CHECKING:
    from tests.support.bank import Bank


class Race:
    """An account whose balance moves behind the back of the node that reads it.

    `Race(bank, 55)` moves it once, to 55; with more balances it moves once per read, in their order; with none, never.
    A node calls `decide`, whatever else it does: that read is followed by a move, and the write staged on it conflicts
    for certain, until no move is left. The order is forced by awaiting, not by pausing: the move is committed on a
    connection of its own after the read has its answer and before the node goes on to its barrier.

    `read` is for nodes that stage something of their own (on the same row, or the stale read may be a valid place in
    the serial order), and `move` for those that read in another way. Nodes without a loop call the `_sync` forms.

    Attributes:
        seen: what `read` and `decide` returned, one balance for each execution of the node.
    """

    def __init__(self, bank: Bank, *balances: int, account: int = 1) -> None:
        self.seen: list[int] = []
        self._bank = bank
        self._account = account
        self._left = list(balances)

    @property
    def over(self) -> bool:
        """No move is left."""
        return not self._left

    async def move(self) -> None:
        """Have the next balance committed, if one is left."""
        if self._left:
            await self._bank.set(self._left.pop(0), self._account)

    async def read(self) -> int:
        """Read the balance, which has moved when this returns."""
        self.seen.append(await current_step().fetchval(BALANCE, self._account))
        await self.move()
        return self.seen[-1]

    async def decide(self) -> int:
        """Read the balance, have it moved, and stage a debit of 1 on what was read."""
        value = await self.read()
        current_step().stage(DEBIT, self._account, expect_rows=1)
        return value

    def read_sync(self) -> int:
        """As `read`, on a thread without a loop."""
        self.seen.append(current_step().sync.fetchval(BALANCE, self._account))
        from_thread(self._bank.saver, self.move())
        return self.seen[-1]

    def decide_sync(self) -> int:
        """As `decide`, on a thread without a loop."""
        value = self.read_sync()
        current_step().sync.stage(DEBIT, self._account, expect_rows=1)
        return value
