"""docs/hot-rows.md: its node runs, once for each flow, however many draw on the row."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from tests.docs.pages import blocks, page

FLOWS = 10


class State(TypedDict, total=False):
    """What the node of the page takes and gives."""

    account: int
    amount: int
    drawn: int


async def test_flows_pass_each_other_on_the_row(database_url: str) -> None:
    shown: list[int] = []
    everybody = asyncio.Barrier(FLOWS)

    async def advise(balance: int, amount: int) -> bool:
        shown.append(balance)
        await everybody.wait()
        return amount <= balance

    names: dict[str, Any] = {"advise": advise}
    (source,) = blocks(page("hot-rows.md"), "python")
    exec(source, names)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))")
            await tx.execute("INSERT INTO account VALUES (1, 100)")
        graph = StateGraph(State).add_node("draw", names["draw"]).add_edge(START, "draw").compile(checkpointer=saver)
        runs = (
            transactional(graph).ainvoke({"account": 1, "amount": 7}, {"configurable": {"thread_id": str(n)}})
            for n in range(FLOWS)
        )
        assert [end["drawn"] for end in await asyncio.gather(*runs)] == [7] * FLOWS
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT balance FROM account") == 100 - 7 * FLOWS
    assert shown == [100] * FLOWS
