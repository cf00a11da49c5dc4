"""A support desk to test on: example data, conversations, and counts of what was paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep import transactional
from superstep.graphs import support
from superstep.graphs.support import rules
from superstep.graphs.support.receive import namespace
from tests.support import desks
from tests.support.commands import _own_folder, on_db, process_env, runtime, start
from tests.support.desks import at, saver_without_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver
    from superstep.providers import OfflineRequest

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]

WHO = "C-001"
SMALL, KETTLE, LARGE, GRINDER, CANCELLED = ("O-1001", "O-1002", "O-1003", "O-1004", "O-1005")
TOTALS = {SMALL: 24_00, KETTLE: 49_00, LARGE: 640_00, GRINDER: 310_00}


class Desk(desks.Desk):
    """Holds conversations.

    Attributes:
        asked: how many answers of a model were really asked for.
        rule: what the model answers by.
    """

    def __init__(self, saver: TransactionalSaver) -> None:
        super().__init__(saver, transactional(support.graph.compile(checkpointer=saver, store=saver.store)))
        self.asked = 0
        self.rule: Any = RULES

    def answer(self, request: OfflineRequest) -> Any:
        self.asked += 1
        return self.rule(request)

    async def write(self, message: str, thread: str = "t", who: str = WHO) -> Any:
        return await self.flow.ainvoke({"customer_id": who, "message": message}, at(thread))

    async def refund(self, *orders: str, thread: str = "t", who: str = WHO) -> Any:
        return await self.write(f"Please refund {' and '.join(orders)}.", thread, who)

    async def say(self, *, approved: bool = True, thread: str = "t", by: str = "S-eli") -> Any:
        return await self.flow.ainvoke(Command(resume={"by": by, "approved": approved}), at(thread))

    async def refunds(self) -> list[tuple[Any, ...]]:
        """Order and amount of each."""
        return [tuple(row) for row in await self.rows("SELECT order_id, amount FROM support.refund ORDER BY order_id")]

    async def balance(self, who: str = WHO) -> Any:
        return await self.sql(
            "SELECT coalesce(sum(refunded), 0)::int FROM support.refund_year WHERE customer_id = $1", who
        )

    async def memories(self, who: str = WHO) -> list[str]:
        return sorted(each.value["text"] for each in await self.saver.store.asearch(namespace(who)))


RULES = rules.answer


def refunded(order_id: str) -> str:
    """What the customer reads of a refund."""
    return f"Order {order_id} is refunded: {TOTALS[order_id] / 100:,.2f}."


@pytest.fixture
async def desk(
    database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """See `saver_without_keys` for the parameter."""
    async with saver_without_keys(database_url, monkeypatch, request) as saver:
        await support.setup(saver)
        made = Desk(saver)
        monkeypatch.setattr(rules, "answer", made.answer)
        yield made
