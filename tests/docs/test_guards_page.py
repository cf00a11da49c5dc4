"""docs/guards.md: its graph plans anew when the account moves between planner and executor."""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import PlanInvalidated
from tests.docs.pages import blocks, page


async def test_the_plan_is_made_on_what_is_there_when_it_is_carried_out(database_url: str) -> None:
    names: dict[str, Any] = {}
    source, whole_run = blocks(page("guards.md"), "python")
    exec(source, names)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account (id text PRIMARY KEY, balance int NOT NULL)")
            await tx.execute("INSERT INTO account VALUES ('A', 100)")
        flow = transactional(names["builder"].compile(checkpointer=saver))
        thread = {"configurable": {"thread_id": "t"}}
        await flow.ainvoke({"account": "A"}, thread, interrupt_before=["executor"])
        async with saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = 40")
        await flow.ainvoke(None, thread, interrupt_before=["executor"])
        result = await flow.ainvoke(None, thread)
        assert (result["plan"], result["done"]) == (20, 20)
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT balance FROM account") == 20
        unguarded = StateGraph(names["State"]).add_node("planner", names["planner"])
        unguarded.add_node("executor", names["executor"]).add_edge(START, "planner")
        unguarded.add_edge("planner", "executor").add_edge("executor", END)
        names |= {"graph": unguarded.compile(checkpointer=saver), "transactional": transactional}
        exec(whole_run, names)
        thread = {"configurable": {"thread_id": "u"}}
        await names["flow"].ainvoke({"account": "A"}, thread, interrupt_before=["executor"])
        async with saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = 6")
        result = await names["flow"].ainvoke(None, thread)
        assert (result["plan"], result["done"]) == (3, 3)
    assert PlanInvalidated.__name__ in page("guards.md")
