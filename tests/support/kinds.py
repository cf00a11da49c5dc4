"""What the tests of node kinds share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import RetryPolicy

from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.graph.state import CompiledStateGraph

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

BALANCE = "SELECT balance FROM account WHERE id = $1"
LOG = "INSERT INTO journal (line) VALUES ($1)"
DEBIT = "UPDATE account SET balance = balance - 1 WHERE id = $1"

AGAIN = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=(ValueError, TimeoutError))


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


async def journal(bank: Bank) -> list[str]:
    return [row["line"] for row in await bank.do("SELECT line FROM journal ORDER BY seq")]


def pinned(saver: TransactionalSaver) -> int:
    """How many connections of the pool somebody holds."""
    return saver.database.connections.lent


def graph_of(saver: Any, nodes: Iterable[Any], **options: Any) -> CompiledStateGraph[Any]:
    """Nodes one after the other, compiled with anything as checkpointer."""
    return chain(saver, *nodes, **options)
