"""Facts that move."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.bank import Bank


class Once:
    """Changes an account's balance from outside, the first time it is asked to."""

    def __init__(self, bank: Bank, balance: int, account: int = 1) -> None:
        self._change = (bank, balance, account)
        self.done = False

    async def __call__(self) -> None:
        if not self.done:
            self.done = True
            bank, balance, account = self._change
            await bank.set(balance, account)
