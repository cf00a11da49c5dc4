"""Parked threads and new code: what a graph of another version goes on with, what it refuses, and how it is lifted."""

from __future__ import annotations

import asyncio
import operator
from contextvars import Context
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import GraphChanged, StaleRun, ThreadBusy
from superstep.runtime.flow.retry import Settings
from tests.support.bank import LOG
from tests.support.internals import from_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


class State(TypedDict, total=False):
    amount: int
    seen: Annotated[list[str], operator.add]


class Cents(TypedDict, total=False):
    """What `State` has become."""

    cents: int
    seen: Annotated[list[str], operator.add]


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """Another process, as far as the database can tell."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


def plan(state: Any) -> Any:
    return {"seen": ["plan"]}


def asks(state: Any) -> Any:
    answer = interrupt(f"pay {state.get('amount', state.get('cents'))}?")
    return {"seen": [f"asked: {answer}"]}


def pay(state: Any) -> Any:
    return {"seen": [f"paid {state.get('amount', state.get('cents'))}"]}


def graph_of(saver: Any, *nodes: tuple[str, Callable[..., Any]], state: Any = State) -> Any:
    builder = StateGraph(state)
    for name, node in nodes:
        builder.add_node(name, node)
    names = [START, *(name for name, _ in nodes), END]
    for here, there in pairwise(names):
        builder.add_edge(here, there)
    return builder.compile(checkpointer=saver)


def first_version(saver: Any, **more: Any) -> Any:
    return transactional(graph_of(saver, ("plan", plan), ("asks", asks), ("pay", pay)), **more)


async def row_of(bank: Bank) -> dict[str, Any]:
    (row,) = await bank.do("SELECT version, structure, status, token, head, error FROM runtime.thread")
    return dict(row)


async def parked(saver: TransactionalSaver, thread: RunnableConfig, **more: Any) -> None:
    result = await first_version(saver, **more).ainvoke({"amount": 5, "seen": []}, thread)
    assert [each.value for each in result["__interrupt__"]] == ["pay 5?"]


async def test_a_node_that_comes_next_is_gone(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    await parked(saver, thread)
    before = await row_of(bank)
    changed = transactional(graph_of(saver, ("plan", plan), ("confirms", asks), ("pay", pay)))
    with pytest.raises(GraphChanged) as refused:
        await changed.ainvoke(Command(resume="yes"), thread)
    assert refused.value.missing == ("node 'asks', which comes next",)
    assert (refused.value.had, refused.value.thread_id) == (before["version"], thread["configurable"]["thread_id"])
    assert await row_of(bank) == before, "the thread is as it was"
    result = await first_version(saver).ainvoke(Command(resume="yes"), thread)
    assert result["seen"] == ["plan", "asked: yes", "paid 5"]


def other_body(state: Any) -> Any:
    """With a docstring."""
    return {"seen": ["paid otherwise"]}


class Longer(State):
    note: str


@pytest.mark.parametrize(
    ("nodes", "state", "seen"),
    [
        ([("plan", plan), ("asks", asks), ("pay", other_body)], State, ["plan", "asked: yes", "paid otherwise"]),
        ([("asks", asks), ("pay", pay)], State, ["plan", "asked: yes", "paid 5"]),
        ([("plan", plan), ("more", plan), ("asks", asks)], State, ["plan", "asked: yes"]),
        (
            [("plan", plan), ("asks", asks), ("more", plan), ("pay", pay)],
            State,
            ["plan", "asked: yes", "plan", "paid 5"],
        ),
        ([("plan", plan), ("asks", asks), ("pay", pay)], Longer, ["plan", "asked: yes", "paid 5"]),
    ],
    ids=["a body", "a node before is gone", "one after it is gone", "one more after it", "a channel more"],
)
async def test_what_the_thread_does_not_need_may_change(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, nodes: Any, state: Any, seen: list[str]
) -> None:
    await parked(saver, thread)
    before = await row_of(bank)
    flow = transactional(graph_of(saver, *nodes, state=state))
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == seen
    now = await row_of(bank)
    same = nodes[-1][1] is other_body
    assert (now["version"] == before["version"]) == same
    assert now["status"] == "completed"


async def test_a_channel_that_holds_a_value_is_gone(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread)
    flow = transactional(graph_of(saver, ("plan", plan), ("asks", asks), ("pay", pay), state=Cents))
    with pytest.raises(GraphChanged, match="channel 'amount', which holds a value"):
        await flow.ainvoke(Command(resume="yes"), thread)


async def test_where_a_saved_result_leads_to_is_gone(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    def built(after: str) -> Any:
        builder = StateGraph(State).add_node("plan", plan).add_node("asks", asks).add_node(after, pay)
        builder.add_edge(START, "plan").add_edge(START, "asks").add_edge("plan", after)
        return transactional(builder.compile(checkpointer=saver))

    await built("pay").ainvoke({"amount": 5, "seen": []}, thread)
    with pytest.raises(GraphChanged) as refused:
        await built("renamed").ainvoke(Command(resume="yes"), thread)
    assert refused.value.missing == ("node 'pay', which comes next",)


async def test_what_was_sent_to_is_gone(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    def built(to: str) -> Any:
        builder = StateGraph(State).add_node("plan", plan).add_node(to, asks).add_edge(START, "plan")
        builder.add_conditional_edges("plan", lambda state: [Send(to, state)], [to])
        return transactional(builder.compile(checkpointer=saver))

    await built("asks").ainvoke({"amount": 5, "seen": []}, thread)
    with pytest.raises(GraphChanged, match="node 'asks', which comes next"):
        await built("renamed").ainvoke(Command(resume="yes"), thread)


async def test_an_edge_that_part_have_come_by_is_gone(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    def built(*starts: str) -> Any:
        builder = StateGraph(State).add_node("quick", plan).add_node("plan", plan).add_node("asks", asks)
        builder.add_node("pay", pay).add_edge(START, "quick").add_edge(START, "plan").add_edge("plan", "asks")
        return transactional(builder.add_edge(list(starts), "pay").compile(checkpointer=saver))

    await built("quick", "asks").ainvoke({"amount": 5, "seen": []}, thread)
    with pytest.raises(GraphChanged, match="the edge from quick and asks to 'pay'"):
        await built("plan", "asks").ainvoke(Command(resume="yes"), thread)


async def test_what_a_subgraph_under_way_needs_counts_too(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    def built(name: str, *more: Any) -> Any:
        inner = graph_of(None, ("first", plan), (name, asks), *more)
        return transactional(graph_of(saver, ("inner", inner), ("pay", pay)))

    await built("asks").ainvoke({"amount": 5, "seen": []}, thread)
    with pytest.raises(GraphChanged, match=r"node 'asks', which comes next \(in subgraph 'inner:"):
        await built("renamed").ainvoke(Command(resume="yes"), thread)
    result = await built("asks", ("more", plan)).ainvoke(Command(resume="yes"), thread)
    assert result["seen"][-1] == "paid 5"


async def test_new_input_takes_the_new_version(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Of a finished thread, and of one that it makes drop what is unfinished."""
    await parked(saver, thread)
    flow = transactional(graph_of(saver, ("renamed", pay)), version="2")
    result = await flow.ainvoke({"amount": 7}, thread)
    assert result["seen"] == ["plan", "paid 7"]
    assert (await row_of(bank))["version"] == "2"
    assert (await transactional(graph_of(saver, ("x", pay)), version="3").ainvoke(None, thread))["amount"] == 7
    assert (await row_of(bank))["version"] == "3"


async def test_a_thread_without_a_version_runs(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    await parked(saver, thread)
    await bank.do("UPDATE runtime.thread SET version = NULL, structure = NULL")
    flow = transactional(graph_of(saver, ("plan", plan), ("asks", asks)), version="2")
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == ["plan", "asked: yes"]
    assert (await row_of(bank))["version"] == "2"


async def test_plain_langgraph_neither_asks_nor_tells(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread, version="1")
    plain = graph_of(saver, ("plan", plan), ("asks", asks))
    assert (await plain.ainvoke(Command(resume="yes"), thread))["seen"] == ["plan", "asked: yes"]
    assert (await row_of(bank))["version"] == "1"


async def test_an_older_checkpoint_is_looked_at_by_itself(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The thread's version says nothing of what the checkpoint stands before."""
    await parked(saver, thread)
    (before,) = [each async for each in first_version(saver).aget_state_history(thread) if each.next == ("asks",)]
    renamed = transactional(graph_of(saver, ("renamed", pay)), version="2")
    await renamed.ainvoke({"amount": 7}, thread)
    with pytest.raises(GraphChanged, match="node 'asks'"):
        await renamed.ainvoke(None, before.config)


# -- lifting -----------------------------------------------------------------------------------------------------------


def to_cents(state: dict[str, Any], from_version: str) -> dict[str, Any]:
    assert from_version == "1"
    return {"cents": 100 * state["amount"], "seen": [*state["seen"], "lifted"]}


def second_version(saver: Any, migrate: Any = to_cents, **more: Any) -> Any:
    graph = graph_of(saver, ("plan", plan), ("asks", asks), ("pay", pay), state=Cents)
    return transactional(graph, version="2", migrate=migrate, **more)


async def test_a_migration_lifts_the_state_once_and_the_question_is_asked_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread, version="1")
    before = await row_of(bank)
    with pytest.raises(GraphChanged, match="version '1' of its graph; this is version '2'"):
        await second_version(saver, None).ainvoke(Command(resume="yes"), thread)
    assert await row_of(bank) == before
    result = await second_version(saver).ainvoke(Command(resume="yes"), thread)
    assert [each.value for each in result["__interrupt__"]] == ["pay 500?"], "the answer was for another question"
    now = await row_of(bank)
    assert (now["version"], now["status"]) == ("2", "interrupted")
    result = await second_version(saver).ainvoke(Command(resume="yes"), thread)
    assert result == {"cents": 500, "seen": ["plan", "lifted", "asked: yes", "paid 500"]}
    history = [each async for each in second_version(saver).aget_state_history(thread)]
    assert [each.metadata["lifted_from"] for each in history if "lifted_from" in each.metadata] == ["1"]


async def test_it_may_go_on_elsewhere(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    await parked(saver, thread, version="1")

    async def migrate(state: dict[str, Any], _: str) -> Any:
        return Command(update=state, goto="confirms")

    nodes = [("plan", plan), ("confirms", asks), ("pay", pay)]
    nowhere = transactional(graph_of(saver, *nodes), migrate=lambda state, _: state)
    with pytest.raises(GraphChanged, match=r"node 'asks', which comes next also after migrate\(\)"):
        await nowhere.ainvoke(None, thread)
    flow = transactional(graph_of(saver, *nodes), migrate=migrate)
    assert [each.value for each in (await flow.ainvoke(None, thread))["__interrupt__"]] == ["pay 5?"]
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == ["plan", "asked: yes", "paid 5"]


@pytest.mark.parametrize(
    ("migrate", "why"),
    [
        (lambda state, _: 1 / 0, "ZeroDivisionError"),
        (lambda state, _: None, "returned a NoneType"),
        (lambda state, _: {"amount": 5}, "'amount', which the graph has no channel for"),
        (lambda state, _: Command(update={"cents": 5}, goto="nowhere"), "'nowhere', which is no node"),
        (lambda state, _: {"cents": object()}, "object"),
    ],
)
async def test_a_migration_that_fails_leaves_the_thread_as_it_was(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, migrate: Any, why: str
) -> None:
    await parked(saver, thread, version="1")
    before = await row_of(bank)
    with pytest.raises(Exception, match=why):
        await second_version(saver, migrate).ainvoke(Command(resume="yes"), thread)
    assert await row_of(bank) == before
    assert (await first_version(saver, version="1").ainvoke(Command(resume="yes"), thread))["seen"][-1] == "paid 5"


async def test_a_subgraph_that_has_committed_writes_is_not_done_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    def writes(state: Any) -> Any:
        current_step().stage(LOG, "written")
        return {"seen": ["wrote"]}

    inner = graph_of(None, ("writes", writes), ("asks", asks))
    graph = graph_of(saver, ("inner", inner))
    await transactional(graph, version="1").ainvoke({"amount": 5, "seen": []}, thread)
    before = await row_of(bank)
    with pytest.raises(GraphChanged, match="have committed writes"):
        await transactional(graph, version="2", migrate=lambda state, _: state).ainvoke(None, thread)
    assert await row_of(bank) == before
    await transactional(graph, version="1").ainvoke(Command(resume="yes"), thread)
    assert await bank.journal() == ["written"]


async def test_a_run_of_the_old_code_that_goes_on_meanwhile_wins(
    saver: TransactionalSaver, elsewhere: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread, version="1")

    async def other() -> None:
        failpoints.disarm("lift.made")
        work = first_version(elsewhere, version="1").ainvoke(Command(resume="yes"), thread)
        await asyncio.create_task(work, context=Context())

    failpoints.arm("lift.made", other)
    await second_version(saver).ainvoke(Command(resume="no"), thread)
    state = await first_version(elsewhere).aget_state(thread)
    assert state.values["seen"] == ["plan", "asked: yes", "paid 5"]
    assert not [1 async for each in first_version(saver).aget_state_history(thread) if "lifted_from" in each.metadata]


async def test_two_that_lift_at_once_lift_once(
    saver: TransactionalSaver, elsewhere: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread, version="1")
    both = asyncio.Barrier(2)

    async def meet() -> None:
        await both.wait()

    failpoints.arm("lift.made", meet)
    runs = [second_version(each).ainvoke(None, thread) for each in (saver, elsewhere)]
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*runs, return_exceptions=True)
    assert [each for each in ended if isinstance(each, Exception) and not isinstance(each, StaleRun)] == []
    history = [each async for each in second_version(saver).aget_state_history(thread)]
    assert sum("lifted_from" in each.metadata for each in history) == 1
    assert history[0].values == {"cents": 500, "seen": ["plan", "lifted"]}


async def test_a_thread_that_another_process_runs_is_not_lifted_unless_it_may_be_taken(
    saver: TransactionalSaver, elsewhere: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await parked(saver, thread, version="1")
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def slow(state: Any) -> Any:
        at_work.set()
        await go_on.wait()
        return {"seen": ["slow"]}

    graph = graph_of(elsewhere, ("plan", plan), ("asks", slow), ("pay", pay))
    run = asyncio.create_task(transactional(graph, version="1").ainvoke(None, thread), context=Context())
    async with asyncio.timeout(60):
        await at_work.wait()
        with pytest.raises(ThreadBusy):
            await second_version(saver, settings=Settings(take_over=False)).ainvoke(None, thread)
        go_on.set()
        assert (await run)["seen"] == ["plan", "slow", "paid 5"]


def test_without_a_loop_too(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    first_version(sync_saver, version="1").invoke({"amount": 5, "seen": []}, thread)
    result = second_version(sync_saver).invoke(None, thread)
    assert result["cents"] == 500
    state = from_thread(sync_saver, second_version(sync_saver).aget_state(thread))
    assert state.next == ("asks",)
