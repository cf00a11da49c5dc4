"""isolation="flow": what a run has read since it began holds at each of its commits, or it goes back."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.threads import provenance
from superstep.runtime.faults import ConfigError, ConflictExhausted, PlanInvalidated, StaleRun
from superstep.runtime.flow.retry import Settings
from tests.checkpointer.calls.models import CountingModel
from tests.support.bank import BALANCE
from tests.support.graphs import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

DRAW = "UPDATE account SET balance = balance - $1 WHERE id = $2"


class State(TypedDict, total=False):
    """Two numbers that two steps read, and who ran."""

    a: int
    b: int
    said: str
    ran: Annotated[list[str], operator.add]


class Flow:
    """reads_a and beside, then reads_b, then ends; accounts move before a node as `before` says.

    Attributes:
        ran: nodes, in order.
        before: by node, accounts to be set before it goes on, each time the next.
    """

    def __init__(self, bank: Bank, **before: list[tuple[int, int]]) -> None:
        self.ran: list[str] = []
        self.before = before
        self.bank = bank
        self.model = CountingModel()

    async def enter(self, node: str) -> None:
        self.ran.append(node)
        if moves := self.before.get(node):
            balance, account = moves.pop(0)
            await self.bank.set(balance, account)

    async def reads_a(self, state: State) -> State:
        await self.enter("reads_a")
        return {"a": await current_step().fetchval(BALANCE, 1), "ran": ["a"]}

    async def beside(self, state: State) -> State:
        await self.enter("beside")
        return {"said": str((await self.model.ainvoke("hello")).content), "ran": ["beside"]}

    async def reads_b(self, state: State) -> State:
        await self.enter("reads_b")
        return {"b": await current_step().fetchval(BALANCE, 2), "ran": ["b"]}

    async def ends(self, state: State) -> State:
        await self.enter("ends")
        return {"ran": ["end"]}

    def graph(self, saver: Any, **nodes: Any) -> Any:
        builder = StateGraph(State)
        for name in ("reads_a", "beside", "reads_b", "ends"):
            builder.add_node(name, nodes.get(name, getattr(self, name)))
        builder.add_edge(START, "reads_a").add_edge(START, "beside")
        builder.add_edge(["reads_a", "beside"], "reads_b").add_edge("reads_b", "ends").add_edge("ends", END)
        return builder.compile(checkpointer=saver)

    def flow(self, saver: Any, **nodes: Any) -> Any:
        return transactional(self.graph(saver, **nodes), isolation="flow")


async def test_a_run_goes_back_to_the_first_step_whose_facts_have_moved(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(70, 1)])
    result = await flow.flow(saver).ainvoke({}, thread)
    assert sorted(flow.ran[:2]) == ["beside", "reads_a"]
    assert flow.ran[2:] == ["reads_b", "ends", "reads_a", "reads_b", "ends"]  # what was beside it has kept its result
    assert (result["a"], result["b"], result["ran"]) == (70, 100, ["beside", "a", "b", "end"])
    assert flow.model.calls == ["hello"]
    assert [step.nodes for step in await steps_of(saver, thread)] == [["beside", "reads_a"], ["reads_b"], ["ends"]]


async def test_only_what_comes_after_a_later_step_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(70, 2)])
    result = await flow.flow(saver).ainvoke({}, thread)
    assert flow.ran[2:] == ["reads_b", "ends", "reads_b", "ends"]
    assert (result["a"], result["b"]) == (100, 70)


async def test_with_isolation_step_nothing_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_guarded", set())  # other tests of this process have declared some
    flow = Flow(bank, ends=[(70, 1)])
    result = await transactional(flow.graph(saver)).ainvoke({}, thread)
    assert (flow.ran[2:], result["a"]) == (["reads_b", "ends"], 100)
    assert await bank.do("SELECT 1 FROM runtime.provenance") == []


async def test_with_domain_writes_since_it_ends_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(70, 1)])

    async def reads_b(state: State) -> State:
        current_step().stage(DRAW, 1, 3)
        return await flow.reads_b(state)

    with pytest.raises(PlanInvalidated, match="reads_a had read in earlier super-steps") as caught:
        await flow.flow(saver, reads_b=reads_b).ainvoke({}, thread)
    assert caught.value.tasks == ("reads_a",)
    assert await bank.balance(3) == 99
    assert flow.ran[2:] == ["reads_b", "ends"]
    assert [step.nodes for step in await steps_of(saver, thread)][1:] == [["reads_b"]]


async def test_own_writes_move_nothing(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """A step reads, later ones write what it had read: blindly, and on what they read themselves."""
    flow = Flow(bank)

    async def reads_b(state: State) -> State:
        current_step().stage(DRAW, 1, 1)
        return await flow.reads_b(state)

    async def ends(state: State) -> State:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(DRAW, balance - 1, 1)
        return await flow.ends(state)

    await flow.flow(saver, reads_b=reads_b, ends=ends).ainvoke({}, thread)
    assert flow.ran[2:] == ["reads_b", "ends"]
    assert await bank.balance(1) == 1


async def test_a_write_of_another_between_own_writes_is_seen(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(50, 1)])

    async def reads_b(state: State) -> State:
        current_step().stage(DRAW, 1, 1)
        return await flow.reads_b(state)

    with pytest.raises(PlanInvalidated):
        await flow.flow(saver, reads_b=reads_b).ainvoke({}, thread)


@pytest.mark.parametrize("another_process", [False, True])
async def test_after_hours_at_an_interrupt(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig, *, another_process: bool
) -> None:
    flow = Flow(bank)

    async def ends(state: State) -> State:
        answer = interrupt(f"{state['a']}?")
        return {"ran": [answer]}

    await flow.flow(saver, ends=ends).ainvoke({}, thread)
    await bank.set(70)
    async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
        graph = flow.flow(elsewhere if another_process else saver, ends=ends)
        result = await graph.ainvoke(Command(resume="yes"), thread)
        assert result["__interrupt__"][0].value == "70?"  # the answer was given to another question
        result = await graph.ainvoke(Command(resume="yes"), thread)
    assert (result["a"], result["ran"]) == (70, ["beside", "a", "b", "yes"])


async def test_facts_of_subgraphs_count_and_they_run_again_with_their_caller(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(70, 1)])
    inner = StateGraph(State).add_node("reads_a", flow.reads_a).add_edge(START, "reads_a").compile()

    async def caller(state: State) -> State:
        flow.ran.append("caller")
        return {"a": (await inner.ainvoke({}))["a"]}

    result = await flow.flow(saver, reads_a=caller).ainvoke({}, thread)
    ran = [node for node in flow.ran if node != "beside"]
    assert ran == ["caller", "reads_a", "reads_b", "ends"] * 2
    assert (result["a"], flow.ran.count("beside")) == (70, 1)


async def test_domain_writes_of_subgraphs_count_too(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(70, 1)])

    async def draws(state: State) -> State:
        current_step().stage(DRAW, 1, 4)
        return {"b": 1}

    inner = StateGraph(State).add_node("draws", draws).add_edge(START, "draws").compile()
    with pytest.raises(PlanInvalidated):
        await flow.flow(saver, reads_b=inner).ainvoke({}, thread)
    assert await bank.balance(4) == 99


async def test_a_new_run_of_the_thread_does_not_answer_for_the_one_before(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)
    graph = flow.flow(saver)
    await graph.ainvoke({}, thread)
    await bank.set(70)
    flow.ran.clear()
    await graph.ainvoke({"said": "again"}, thread)
    assert len(flow.ran) == 4


async def test_facts_that_never_come_to_rest_end_it(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, ends=[(n, 1) for n in range(50)])
    graph = transactional(flow.graph(saver), settings=Settings(max_attempts=4, isolation="flow"))
    with pytest.raises(ConflictExhausted, match="4 attempts"):
        await graph.ainvoke({}, thread)
    assert flow.ran.count("ends") == 4


async def test_a_run_that_lost_its_thread_goes_back_nowhere(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Another run finishes the thread before this one finds out that its facts have moved."""
    flow = Flow(bank)
    taken: list[Any] = []

    async def ends(state: State) -> State:
        if not taken:
            taken.append(True)
            await bank.do("UPDATE runtime.thread SET token = token + 1000")
            await bank.set(70)
        return await flow.ends(state)

    with pytest.raises(StaleRun):
        await flow.flow(saver, ends=ends).ainvoke({}, thread)
    assert len(await steps_of(saver, thread)) == 2


def test_what_is_no_isolation() -> None:
    with pytest.raises(ConfigError, match='"step" or "flow"'):
        Settings(isolation="serializable")


@pytest.mark.parametrize("hold_idle", ["forever"])
async def test_own_writes_of_a_subgraph_move_nothing_for_one_beside_it(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The second one has its snapshot when the first one commits a write of what the run had read before."""
    flow = Flow(bank)
    has_read, has_written = asyncio.Event(), asyncio.Event()

    async def draws(state: State) -> State:
        await has_read.wait()
        current_step().stage(DRAW, 1, 1)
        return {}

    async def then(state: State) -> State:
        has_written.set()
        return {}

    async def looks(state: State) -> State:
        await current_step().fetchval(BALANCE, 3)
        has_read.set()
        await has_written.wait()
        return {}

    writer = StateGraph(State).add_node("draws", draws).add_node("then", then)
    writer.add_edge(START, "draws").add_edge("draws", "then")
    reader = StateGraph(State).add_node("looks", looks).add_edge(START, "looks")
    builder = StateGraph(State).add_node("reads_a", flow.reads_a).add_edge(START, "reads_a")
    for name, graph in (("writes", writer.compile()), ("reads", reader.compile())):
        builder.add_node(name, partial(_calls, graph)).add_edge("reads_a", name)
    await transactional(builder.compile(checkpointer=saver), isolation="flow").ainvoke({}, thread)
    assert (await bank.balance(1), flow.ran) == (99, ["reads_a"])


async def _calls(graph: Any, state: State) -> State:
    await graph.ainvoke({})
    return {}
