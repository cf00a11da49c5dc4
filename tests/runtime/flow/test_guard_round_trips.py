"""What a guard costs, beside a node that reads the facts again by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from superstep import guard, transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.threads import provenance
from tests.support.bank import BALANCE, SHARE
from tests.support.statements import Log, logged_saver

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

DRAW = "UPDATE account SET balance = balance - $1 WHERE id = 1"


class Plan(TypedDict, total=False):
    """What is handed on."""

    plan: int
    drawn: int


async def planner(state: Plan) -> Plan:
    return {"plan": await current_step().fetchval(BALANCE, 1)}


async def draws(state: Plan) -> Plan:
    current_step().stage(DRAW, state["plan"], expect_rows=1)
    return {"drawn": state["plan"]}


async def only_says(state: Plan) -> Plan:
    return {"drawn": state["plan"]}


def by_hand(executor: Any) -> Any:
    async def reads_again(state: Plan) -> Any:
        assert await current_step().fetchval(BALANCE, 1) == state["plan"]
        return await executor(state)

    return reads_again


@pytest.mark.parametrize(("executor", "more"), [(only_says, 0), (draws, 2)])
async def test_a_guard_costs_what_reading_again_does(
    executor: Any,
    more: int,
    database_url: str,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the plan rests on is stored with its checkpoint. A node that writes reads once more, after its writes.

    Its own writes are no move of the plan for a guard to come. So they cannot go along with the checkpoint, which has
    what that read says.
    """
    log = Log()
    async with logged_saver(database_url, log) as saver:

        async def sent(node: Any) -> list[str]:
            builder = StateGraph(Plan).add_node("planner", planner).add_node("executor", node)
            builder.add_edge(START, "planner").add_edge("planner", "executor").add_edge("executor", END)
            graph = transactional(builder.compile(checkpointer=saver))
            await graph.ainvoke({}, new_thread())  # what is learned once per connection
            async with saver.transaction() as tx:
                await tx.execute("UPDATE account SET balance = 100 WHERE id = 1")
            return await log.during(graph.ainvoke({}, new_thread()))

        monkeypatch.setattr(provenance, "_guarded", set())
        plain = await sent(by_hand(executor))
        guarded = await sent(guard(executor, on="plan", otherwise="planner"))
    assert "put_root_kept" in guarded
    assert len(guarded) == len(plain) + more


@pytest.mark.parametrize("reads", [1, 2])
async def test_a_write_that_makes_the_plans_read_fail_is_committed(
    reads: int, database_url: str, new_thread: Callable[[], RunnableConfig]
) -> None:
    """What the plan rests on is read among the writes, without protection: its failure ends that try, and not the run.

    The failure is then what the fact says after the run's own write: no move for a guard that comes later.
    """
    log, runs = Log(), list[str]()

    async def plans(state: Plan) -> Plan:
        runs.append("plan")
        step = current_step()
        for _ in range(reads - 1):
            await step.fetchval(BALANCE, 1)
        return {"plan": await step.fetchval(SHARE, 1)}

    async def empties(state: Plan) -> Plan:
        runs.append("empty")
        current_step().stage("UPDATE account SET balance = 0 WHERE id = 1", expect_rows=1)
        return {"drawn": state["plan"]}

    async def ends(state: Plan) -> Plan:
        runs.append("end")
        return {}

    async with logged_saver(database_url, log) as saver:
        builder = StateGraph(Plan).add_node("planner", plans)
        builder.add_node("executor", guard(empties, on="plan", otherwise="planner"))
        builder.add_node("end", guard(ends, on="plan", otherwise="planner"))
        builder.add_edge(START, "planner").add_edge("planner", "executor").add_edge("executor", "end").add_edge(
            "end", END
        )
        graph = transactional(builder.compile(checkpointer=saver))
        async with saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = 100 WHERE id = 1")
        config = new_thread()
        assert (await graph.ainvoke({}, config))["drawn"] == 1
        assert runs == ["plan", "empty", "end"]
        async with saver.transaction() as tx:
            assert await tx.fetchval(BALANCE, 1) == 0
        steps = await saver.asteps(config["configurable"]["thread_id"])
        assert [step.repairs for step in steps] == [0, 1, 0]
