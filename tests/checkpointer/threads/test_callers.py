"""A task answers for its callers: what runs in a subgraph, a tool or a `@task` rests on what its callers have read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import ConfigError, StepConflict
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import State, chain, config_of, fan, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

DRAW = "UPDATE account SET balance = balance - $1 WHERE id = 1"


def debit(amount: int) -> None:
    current_step().stage(DRAW, amount, expect_rows=1)


def pays(saver: Any, pay: Any) -> Any:
    """Two tasks of one super-step, with `n` 1 and 2."""
    builder = StateGraph(State).add_node("pay", pay)
    builder.add_conditional_edges(START, lambda _: [Send("pay", {"n": n}) for n in (1, 2)], ["pay"])
    return builder.compile(checkpointer=saver)


async def as_subgraph(amount: int) -> None:
    async def pay(state: Any) -> Any:
        debit(state["n"])
        return {}

    await chain(None, pay).ainvoke({"n": amount})


async def as_subgraph_with_a_memory(amount: int) -> None:
    async def pay(state: Any) -> Any:
        debit(state["n"])
        return {}

    await chain(True, pay).ainvoke({"n": amount})


async def with_a_memory_below_one_without(amount: int) -> None:
    async def pay(state: Any) -> Any:
        debit(state["n"])
        return {}

    outer = StateGraph(State).add_node("agent", chain(True, pay)).add_edge(START, "agent").compile()
    await outer.ainvoke({"n": amount})


async def without_a_memory_below_one_with(amount: int) -> None:
    async def agent(state: Any) -> Any:
        await as_subgraph(state["n"])
        return {}

    await chain(True, agent).ainvoke({"n": amount})


async def two_levels_down(amount: int) -> None:
    async def agent(state: Any) -> Any:
        await as_subgraph(state["n"])
        return {}

    await chain(None, agent).ainvoke({"n": amount})


async def in_a_tool_of_an_agent(amount: int) -> None:
    @tool
    async def pay(amount: int) -> str:
        """Pay."""
        debit(amount)
        return "paid"

    async def act(state: Any) -> Any:
        await pay.ainvoke({"amount": state["n"]})
        return {}

    await chain(None, act).ainvoke({"n": amount})


async def by_send(amount: int) -> None:
    async def pay(state: Any) -> Any:
        debit(state["n"])
        return {}

    builder = StateGraph(State).add_node("pay", pay)
    builder.add_conditional_edges(START, lambda state: [Send("pay", {"n": state["n"]})], ["pay"])
    await builder.compile().ainvoke({"n": amount})


async def after_a_step_of_its_own(amount: int) -> None:
    async def look(state: Any) -> Any:
        return {"bag": {"day": await current_step().fetchval("SELECT 1")}}

    async def pay(state: Any) -> Any:
        debit(state["n"])
        return {}

    await chain(None, look, pay).ainvoke({"n": amount})


SHAPES = [
    as_subgraph,
    two_levels_down,
    in_a_tool_of_an_agent,
    by_send,
    after_a_step_of_its_own,
    as_subgraph_with_a_memory,
    with_a_memory_below_one_without,
    without_a_memory_below_one_with,
]


def drawing(pay: Callable[[int], Awaitable[None]], read: Callable[[], Awaitable[int]]) -> Any:
    async def draw(state: Any) -> Any:
        amount = min(70, await read())
        await pay(amount)
        return {"seen": [amount]}

    return draw


async def balance() -> int:
    return int(await current_step().fetchval(BALANCE, 1))


@pytest.mark.parametrize("hold_idle", [0, 0.25, "forever"])
@pytest.mark.parametrize("pay", SHAPES)
async def test_a_nested_write_is_refused_when_its_callers_facts_have_moved(
    pay: Any, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 30)
    flow = transactional(chain(saver, drawing(pay, race.read)))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [30]
    assert race.seen == [100, 30]
    assert await bank.balance() == 0


@pytest.mark.parametrize("pay", SHAPES)
async def test_what_a_nested_step_writes_is_no_change_from_outside(
    pay: Any, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The caller's own agent draws on the balance that the caller has read: nothing runs twice."""
    race = Race(bank)
    flow = transactional(chain(saver, drawing(pay, race.read)))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [70]
    assert race.seen == [100]
    assert await bank.balance() == 30
    assert [step.drifts for step in await steps_of(saver, thread)] == [0] * len(await steps_of(saver, thread))


@pytest.mark.parametrize("pay", SHAPES)
async def test_flows_that_race_through_agents_never_overdraw(pay: Any, saver: TransactionalSaver, bank: Bank) -> None:
    """What is drawn is what the agents have committed. A caller that runs again after that does not run them again, and
    may say something else about it: others have moved the balance since.
    """
    await bank.do(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO journal (line) VALUES (OLD.balance - NEW.balance); RETURN NULL; END $$"
    )
    await bank.do("CREATE TRIGGER note AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION note()")
    flow = transactional(chain(saver, drawing(pay, balance)))
    await asyncio.gather(*(flow.ainvoke({"seen": []}, config_of(f"t{n}")) for n in range(5)))
    drawn = sorted(int(line) for line in await bank.journal())
    assert [amount for amount in drawn if amount] == [30, 70]
    assert await bank.balance() == 0


async def test_a_change_from_outside_after_the_nested_commit_still_counts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs: list[int] = []

    async def draw(state: Any) -> Any:
        step = current_step()
        runs.append(await step.fetchval(BALANCE, 1))
        await as_subgraph(70)
        if len(runs) == 1:
            await bank.set(29)  # after the subgraph has committed: the caller's own write rests on 30
        step.stage(LOG, f"saw {runs[-1]}")
        return {}

    await transactional(chain(saver, draw)).ainvoke({"seen": []}, thread)
    assert runs == [100, 29]
    assert await bank.journal() == ["saw 29"]
    assert await bank.balance() == 29  # the subgraph has drawn once


async def test_a_caller_sees_what_its_agent_has_written(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def draw(state: Any) -> Any:
        before = await balance()
        await as_subgraph(70)
        return {"seen": [before, await balance()]}

    assert (await transactional(chain(saver, draw)).ainvoke({"seen": []}, thread))["seen"] == [100, 30]


async def test_an_entrypoint_answers_for_its_tasks(saver: TransactionalSaver, bank: Bank) -> None:
    race = Race(bank, 30)

    @task
    async def pay(amount: int) -> None:
        await as_subgraph(amount)

    @entrypoint(checkpointer=saver)
    async def draw(wanted: int) -> int:
        amount = min(wanted, await race.read())
        await pay(amount)
        return amount

    assert await transactional(draw).ainvoke(70, config_of("t")) == 30
    assert await bank.balance() == 0


async def test_plain_langgraph_is_told_which_node_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 30)
    graph = chain(saver, drawing(as_subgraph, race.read))
    with pytest.raises(StepConflict) as raised:
        await graph.ainvoke({"seen": []}, thread)
    assert raised.value.tasks == ("draw",)
    assert await bank.balance() == 30
    assert (await graph.ainvoke(None, thread))["seen"] == [30]


async def test_a_sibling_of_the_caller_keeps_its_result(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race, ran = Race(bank, 30), []

    async def beside(state: Any) -> Any:
        ran.append(await current_step().fetchval(BALANCE, 2))
        return {"seen": ["beside"]}

    builder = StateGraph(State).add_node("draw", drawing(as_subgraph, race.read)).add_node("beside", beside)
    flow = transactional(builder.add_edge(START, "draw").add_edge(START, "beside").compile(checkpointer=saver))
    assert sorted(map(str, (await flow.ainvoke({"seen": []}, thread))["seen"])) == ["30", "beside"]
    assert ran == [100]


async def test_a_lost_connection_in_the_nested_commit_is_repaired(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    hits: list[int] = []

    async def cut() -> None:
        hits.append(1)
        if len(hits) == 1:
            await bank.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                          "AND datname = current_database() AND state LIKE 'idle in%'")  # fmt: skip

    failpoints.arm("commit.staged", cut)
    flow = transactional(chain(saver, drawing(as_subgraph, balance)))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [70]
    assert await bank.balance() == 30


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("wrap", [False, True])
async def test_nothing_nested_commits_before_what_is_in_front_of_its_caller(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, levels: int, wrap: bool
) -> None:
    """Under durability "async" LangGraph starts a subgraph while the step before it is still being committed."""
    race = Race(bank, 30)

    async def before(state: Any) -> Any:
        balance = await race.read()
        current_step().stage(DRAW, balance, expect_rows=1)
        return {"n": balance}

    async def inner(state: Any) -> Any:
        current_step().stage(LOG, f"after {state['n']}")
        return {}

    builder = StateGraph(State).add_node("before", before).add_node("below", chain(None, inner))
    builder.add_edge(START, "before").add_edge("before", "below")
    if levels == 2:
        builder = StateGraph(State).add_node("around", builder.compile()).add_edge(START, "around")
    graph = builder.compile(checkpointer=saver)
    if wrap:
        await transactional(graph).ainvoke({"n": 0}, thread)
    else:
        with pytest.raises(StepConflict):
            await graph.ainvoke({"n": 0}, thread, durability="async")
        assert await bank.journal() == []
        await graph.ainvoke(None, thread)
    assert await bank.journal() == ["after 30"]
    assert await bank.balance() == 0


async def test_a_run_addressed_to_an_older_checkpoint_ends(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def one(state: Any) -> Any:
        return {"seen": [await balance()]}

    async def two(state: Any) -> Any:
        return {"seen": [await balance()]}

    flow = transactional(chain(saver, one, two))
    await flow.ainvoke({"seen": []}, thread)
    middle = [each async for each in flow.aget_state_history(thread) if each.next == ("two",)]
    await bank.set(7)
    async with asyncio.timeout(30):
        assert (await flow.ainvoke(None, middle[0].config))["seen"] == [100, 7]


@pytest.mark.parametrize("call", [as_subgraph, as_subgraph_with_a_memory, with_a_memory_below_one_without])
async def test_a_sibling_that_drifts_takes_nothing_back_that_was_committed_on_its_writes(
    call: Callable[[int], Awaitable[None]], saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The second task runs again after the first, whose write it sees, and calls its agent on it. The first drifts."""
    ran: list[tuple[int, int]] = []

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        ran.append((state["n"], balance))
        if state["n"] == 1:
            doubled = balance if await current_step().fetchval(BALANCE, 2) == 100 else 0
            current_step().stage("UPDATE account SET balance = balance + $1 WHERE id = 1", doubled)
        elif balance > 100:
            await bank.set(0, account=2)  # the first task would decide otherwise now
            await call(150)
        return {"seen": [balance]}

    await transactional(pays(saver, pay)).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 100  # nothing was drawn from what never was there
    assert ran == [(1, 100), (2, 100), (2, 200), (2, 100), (1, 100)]


@pytest.mark.parametrize("call", [as_subgraph, as_subgraph_with_a_memory])
async def test_tasks_whose_agents_commit_come_before_their_siblings(
    call: Callable[[int], Awaitable[None]], saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What the agent draws is committed first, so its caller has not read too early: only the sibling runs again."""
    ran: list[tuple[int, int]] = []

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        ran.append((state["n"], balance))
        if state["n"] == 1:
            current_step().stage("UPDATE account SET balance = $1 WHERE id = 1", balance - 20, expect_rows=1)
        else:
            await call(70)
        return {"seen": [balance]}

    await transactional(pays(saver, pay)).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 10
    assert ran == [(1, 100), (2, 100), (1, 30)]


async def test_two_tasks_cannot_both_come_first(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Both have agents that commit, and the second decides on what the first itself stages."""

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        if state["n"] == 1:
            current_step().stage("UPDATE account SET balance = 60 WHERE id = 1")
            await as_subgraph(0)
        elif balance == 60:
            await as_subgraph(50)
        return {"seen": [balance]}

    flow = transactional(pays(saver, pay))
    given: dict[str, Any] | None
    for given in ({"seen": []}, None):  # and so does resuming it
        with pytest.raises(ConfigError, match="Neither can come first"):
            await flow.ainvoke(given, thread)
        assert await bank.balance() == 100


async def test_a_subgraph_that_writes_nothing_runs_on_top_of_a_siblings_write(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def look(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        if state["n"] == 1:
            current_step().stage("UPDATE account SET balance = 60 WHERE id = 1")
        elif balance < 100:
            await chain(None, look).ainvoke({"seen": []})
        return {"seen": [balance]}

    result = await transactional(pays(saver, pay)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 60]
    assert await bank.balance() == 60


async def test_what_a_sibling_stages_elsewhere_stops_no_agent(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Both have agents that commit. One runs again beside the saved result of the other, and does not rest on it."""
    left = [55]

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, state["n"] + 1)
        current_step().stage(LOG, f"pay {state['n']}")
        if state["n"] == 2 and left:
            await bank.set(left.pop(), account=3)
        await as_subgraph(10)
        return {"seen": [balance]}

    result = await transactional(pays(saver, pay)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 55]
    assert await bank.balance() == 80
    assert sorted(await bank.journal()) == ["pay 1", "pay 2"]


@pytest.mark.parametrize("wrap", [True, False])
async def test_nobody_is_asked_twice_because_a_sibling_stages_something_else(
    wrap: bool, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    changed: list[bool] = []

    async def logs(state: Any) -> Any:
        current_step().stage(LOG, "started")
        return {}

    async def zasks(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        changed.append(current_step().facts_changed)
        answer = interrupt(f"spend of {balance}?")
        await as_subgraph(10)
        return {"seen": [answer]}

    graph = fan(saver, logs, zasks)
    flow = transactional(graph) if wrap else graph
    await flow.ainvoke({"seen": []}, thread)
    result = await flow.ainvoke(Command(resume="yes"), thread)
    assert (result["seen"], changed) == (["yes"], [False, False])
    assert (await bank.balance(), await bank.journal()) == (90, ["started"])
