"""A flow inside another run is an ordinary subgraph of it, unless it names a thread: then it is a run of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain, config_of, steps_of
from tests.support.internals import active, pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def clerk(state: Any) -> Any:
    return {"seen": ["clerk"]}


def as_node(member: Any) -> Any:
    return member


def called_with_the_config(member: Any) -> Any:
    """As a supervisor calls its agents."""

    async def call(state: Any, config: RunnableConfig) -> Any:
        return {"seen": (await member.ainvoke({"seen": []}, config))["seen"]}

    return call


def called_without_a_config(member: Any) -> Any:
    async def call(state: Any) -> Any:
        return {"seen": (await member.ainvoke({"seen": []}))["seen"]}

    return call


def streamed(member: Any) -> Any:
    async def call(state: Any) -> Any:
        chunks = [chunk async for chunk in member.astream({"seen": []}, stream_mode="updates")]
        return {"seen": next(each["seen"] for chunk in chunks for each in chunk.values())}

    return call


PLACES = [as_node, called_with_the_config, called_without_a_config, streamed]


def around(saver: Any, node: Any) -> Any:
    return StateGraph(State).add_node("member", node).add_edge(START, "member").compile(checkpointer=saver)


@pytest.mark.parametrize("outer", ["flow", "plain", "without a checkpointer", "on another saver"])
@pytest.mark.parametrize("own", ["with the saver", "without"])
@pytest.mark.parametrize("place", PLACES)
async def test_a_flow_is_a_part_of_whatever_runs_it(
    saver: TransactionalSaver, thread: RunnableConfig, place: Any, own: str, outer: str
) -> None:
    member = transactional(chain(saver if own == "with the saver" else None, clerk))
    savers = {"without a checkpointer": None, "on another saver": InMemorySaver()}
    graph = around(savers.get(outer, saver), place(member))
    whole = transactional(graph) if outer == "flow" else graph
    async with asyncio.timeout(30):
        assert (await whole.ainvoke({"seen": []}, thread))["seen"] == ["clerk"]
    assert active(saver) == set()


@pytest.mark.parametrize("place", PLACES)
async def test_conflicts_inside_belong_to_the_outermost_flow(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, place: Any
) -> None:
    race = Race(bank, 55)
    inside: list[Any] = []
    outside: list[Any] = []

    async def decide(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    member = transactional(chain(saver, decide))
    member.on_conflict = inside.append
    whole = transactional(around(saver, place(member)))
    whole.on_conflict = outside.append
    assert (await whole.ainvoke({"seen": []}, thread))["seen"] == [55]
    assert (len(inside), len(outside)) == (0, 1)
    assert await bank.balance() == 54
    assert pinned(saver) == 0


@pytest.mark.parametrize("place", PLACES)
async def test_in_a_plain_graph_they_are_raised(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, place: Any
) -> None:
    race = Race(bank, 55)

    async def decide(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    graph = around(saver, place(transactional(chain(saver, decide))))
    with pytest.raises(StepConflict):
        await graph.ainvoke({"seen": []}, thread)
    assert (await graph.ainvoke(None, thread))["seen"] == [55]
    assert await bank.balance() == 54


async def test_many_at_once_in_one_step(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def log(state: Any) -> Any:
        current_step().stage(LOG, state["seen"][0])
        return {}

    builder = StateGraph(State).add_node("member", transactional(chain(saver, log)))
    builder.add_conditional_edges(START, lambda _: [Send("member", {"seen": [n]}) for n in "abc"], ["member"])
    flow = transactional(builder.compile(checkpointer=saver))
    assert sorted((await flow.ainvoke({"seen": []}, thread))["seen"]) == ["a", "b", "c"]
    assert sorted(await bank.journal()) == ["a", "b", "c"]


async def test_a_question_inside_reaches_the_outermost_caller(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def ask(state: Any) -> Any:
        answer = interrupt("sure?")
        current_step().stage(LOG, answer)
        return {"seen": [answer]}

    flow = transactional(around(saver, transactional(chain(saver, ask))))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    assert question.value == "sure?"
    state = await flow.aget_state(thread, subgraphs=True)
    assert state.tasks[0].state.next == ("ask",)
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == ["yes"]
    assert await bank.journal() == ["yes"]


@pytest.mark.parametrize("how", ["given", "bound"])
async def test_a_call_that_names_a_thread_is_a_run_of_its_own(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, how: str
) -> None:
    race = Race(bank, 55)
    inside: list[Any] = []

    async def decide(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    member = transactional(chain(saver, decide))
    member.on_conflict = inside.append
    bound = member.with_config(config_of("own"))

    async def call(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 2)
        got = await (bound.ainvoke({"seen": []}) if how == "bound" else member.ainvoke({"seen": []}, config_of("own")))
        return {"seen": [balance, *got["seen"]]}

    whole = transactional(around(saver, call))
    assert (await whole.ainvoke({"seen": []}, thread))["seen"] == [100, 55]
    assert len(inside) == 1
    assert [step.nodes for step in await steps_of(saver, config_of("own"))] == [["decide"]]
    assert [step.nodes for step in await steps_of(saver, thread)] == [["member"]]


def test_without_a_loop_too(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    def log(state: Any) -> Any:
        current_step().sync.stage(LOG, "log")
        return {"seen": ["log"]}

    member = transactional(chain(sync_saver, log))

    def call(state: Any, config: RunnableConfig) -> Any:
        once = member.invoke({"seen": []}, config)["seen"]
        again = [chunk["log"]["seen"] for chunk in member.stream({"seen": []}, stream_mode="updates")]
        own = member.invoke({"seen": []}, config_of("own"))["seen"]
        return {"seen": [once, again, own]}

    flow = transactional(around(sync_saver, call))
    assert flow.invoke({"seen": []}, thread)["seen"] == [["log"], [["log"]], ["log"]]
