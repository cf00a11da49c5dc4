"""Changes that no run makes, racing a run: nothing that was committed is cut out of the history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, StateUpdate, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.commit import outside
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import DatabaseUnavailable, StagedWriteFailed, StaleRun, StepConflict
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain, config_of, fan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


class Between:
    """Does something once: between the load and the put of the next change from outside."""

    def __init__(self, saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.act: Any = None
        load = saver.aget_tuple

        async def loaded(config: RunnableConfig) -> Any:
            found = await load(config)
            if self.act is not None:
                act, self.act = self.act, None
                await asyncio.create_task(act())  # its own context, as another program has
            return found

        monkeypatch.setattr(saver, "aget_tuple", loaded)


@pytest.fixture
def between(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> Between:
    return Between(saver, monkeypatch)


def counting(saver: TransactionalSaver) -> CompiledStateGraph[Any]:
    async def one(state: State) -> Any:
        current_step().stage(LOG, f"one {state['n']}")
        return {"n": state["n"] + 1}

    async def two(state: State) -> Any:
        current_step().stage(LOG, f"two {state['n']}")
        return {"n": state["n"] + 1}

    return chain(saver, one, two)


def going_on(graph: CompiledStateGraph[Any], thread: RunnableConfig) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        await graph.ainvoke(None, thread)

    return act


async def fetch_ids(saver: TransactionalSaver, thread: RunnableConfig) -> list[str]:
    return [found.checkpoint["id"] async for found in saver.alist(thread)]


async def test_an_update_of_the_latest_state_does_not_cut_out_what_was_committed_since(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, between: Between
) -> None:
    graph = counting(saver)
    await graph.ainvoke({"n": 0}, thread, interrupt_after=["one"])

    between.act = going_on(graph, thread)
    with pytest.raises(StaleRun, match="moved on"):
        await graph.aupdate_state(thread, {"n": 50}, as_node="one")
    assert (await graph.aget_state(thread)).values["n"] == 2
    assert await bank.journal() == ["one 0", "two 1"]


async def test_a_flow_makes_such_an_update_of_the_state_that_is_there_then(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, between: Between
) -> None:
    graph = counting(saver)
    await graph.ainvoke({"n": 0}, thread, interrupt_after=["one"])

    between.act = going_on(graph, thread)
    before = await fetch_ids(saver, thread)
    await transactional(graph).aupdate_state(thread, {"n": 50}, as_node="two")
    assert (await graph.aget_state(thread)).values["n"] == 50
    assert await bank.journal() == ["one 0", "two 1"]
    assert len(await fetch_ids(saver, thread)) == len(before) + 2


async def test_so_it_is_for_a_first_state_an_input_and_a_script(
    saver: TransactionalSaver, thread: RunnableConfig, between: Between
) -> None:
    graph = counting(saver)

    async def start() -> None:
        await graph.ainvoke({"n": 0}, thread)

    between.act = start
    with pytest.raises(StaleRun):
        await graph.aupdate_state(thread, {"n": 50}, as_node="one")
    between.act = start
    with pytest.raises(StaleRun):
        await graph.aupdate_state(thread, {"n": 50}, as_node="__input__")
    between.act = start
    found = await saver.aget_tuple(thread)
    assert found is not None
    with pytest.raises(StaleRun):
        await saver.aput(found.config, empty_checkpoint(), {"source": "update"}, {})
    assert (await graph.aget_state(thread)).values["n"] == 2


async def test_every_super_step_of_a_bulk_update_continues_the_one_before(
    saver: TransactionalSaver, thread: RunnableConfig, between: Between
) -> None:
    graph = counting(saver)
    await graph.ainvoke({"n": 0}, thread, interrupt_after=["one"])
    updates = [[StateUpdate({"n": 10}, "one")], [StateUpdate({"n": 20}, "one")]]
    before = len(await fetch_ids(saver, thread))
    await graph.abulk_update_state(thread, updates)
    assert len(await fetch_ids(saver, thread)) == before + 2

    real, loads = saver.aget_tuple, []

    async def second_load(config: RunnableConfig) -> Any:
        loads.append(config)
        if len(loads) == 2:
            between.act = going_on(graph, thread)
        return await real(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saver, "aget_tuple", second_load)
        with pytest.raises(StaleRun):
            await graph.abulk_update_state(thread, updates)
    assert (await graph.aget_state(thread)).values["n"] == 11  # the first update, and what the run made of it


async def test_a_fork_goes_wherever_it_is_addressed_to(
    saver: TransactionalSaver, thread: RunnableConfig, between: Between
) -> None:
    graph = counting(saver)
    await graph.ainvoke({"n": 0}, thread, interrupt_after=["one"])
    here = (await graph.aget_state(thread)).config

    between.act = going_on(graph, thread)
    forked = await graph.aupdate_state(here, {"n": 50}, as_node="one")
    assert (await graph.ainvoke(None, forked))["n"] == 51


async def test_a_super_step_that_commits_meanwhile_is_waited_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The update loads the state before that commit, and its put comes while the commit holds the thread."""
    graph = counting(saver)
    await graph.ainvoke({"n": 0}, thread, interrupt_after=["one"])
    committing, loaded = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        committing.set()
        await loaded.wait()

    failpoints.arm("commit.before_commit", wait)
    run = asyncio.create_task(graph.ainvoke(None, thread))
    await committing.wait()
    failpoints.disarm("commit.before_commit")
    update = asyncio.create_task(graph.aupdate_state(thread, {"n": 50}, as_node="one"))
    try:  # of the update, that is: the results of "two" may be waiting for the row of the thread too
        await bank.waited_for("locktype = 'transactionid' AND query LIKE '%token = DEFAULT%'")
    finally:
        loaded.set()
    assert (await run)["n"] == 2
    with pytest.raises(StaleRun):
        await update
    assert await bank.journal() == ["one 0", "two 1"]


async def test_a_change_of_a_subgraphs_latest_state_continues_it(
    saver: TransactionalSaver, thread: RunnableConfig, between: Between
) -> None:
    async def first(state: State) -> Any:
        return {"n": state["n"] + 1}

    async def second(state: State) -> Any:
        return {"n": state["n"] + interrupt("?")}

    async def third(state: State) -> Any:
        return {"n": state["n"] + 1}

    graph = chain(None, first, second, third)
    outer = StateGraph(State).add_node("inner", graph).add_edge(START, "inner").compile(checkpointer=saver)
    await outer.ainvoke({"n": 0}, thread)
    (task,) = (await outer.aget_state(thread, subgraphs=True)).tasks
    nested: Any = task.state.config
    latest: Any = {"configurable": {k: v for k, v in nested["configurable"].items() if k != "checkpoint_id"}}
    latest["configurable"].pop("checkpoint_map", None)

    async def change() -> None:
        await outer.aupdate_state(latest, {"n": 5}, as_node="first")

    between.act = change
    with pytest.raises(StaleRun):
        await outer.aupdate_state(latest, {"n": 50}, as_node="first")
    (task,) = (await outer.aget_state(thread, subgraphs=True)).tasks
    assert task.state.values["n"] == 5  # type: ignore[union-attr]


# -- results that are taken into the state by hand ---------------------------------------------------------------------


def paid_beside_a_question(saver: TransactionalSaver, *, sent: bool = False, sql: str = LOG) -> CompiledStateGraph[Any]:
    async def paid(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        step.stage(sql, f"saw {value}")
        return {"seen": [value]}

    async def asks(state: Any) -> Any:
        return {"seen": [interrupt("?")]}

    if not sent:
        return fan(saver, paid, asks)
    builder = StateGraph(State).add_node(paid).add_node(asks)
    return builder.add_conditional_edges(START, lambda _: [Send("paid", {}), Send("asks", {})]).compile(saver)


@pytest.mark.parametrize("sent", [False, True])
async def test_results_that_an_update_takes_along_bring_their_writes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sent: bool
) -> None:
    graph = paid_beside_a_question(saver, sent=sent)
    await graph.ainvoke({"seen": []}, thread)
    await graph.aupdate_state(thread, None, as_node=END)
    assert (await graph.aget_state(thread)).values["seen"] == [100]
    assert await bank.journal() == ["saw 100"]
    assert (await saver.asteps(thread["configurable"]["thread_id"]))[-1].nodes == ["paid"]


async def test_results_whose_facts_moved_are_not_taken(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    graph = paid_beside_a_question(saver)
    await graph.ainvoke({"seen": []}, thread)
    await bank.set(7)
    with pytest.raises(StepConflict):
        await graph.aupdate_state(thread, None, as_node=END)
    state = await graph.aget_state(thread)
    assert (state.values["seen"], await bank.journal()) == ([], [])
    assert sorted(state.next) == ["asks", "paid"]
    await graph.aupdate_state(thread, None, as_node=END)  # the result is gone: nothing to take
    assert (await graph.aget_state(thread)).values["seen"] == []
    assert await bank.journal() == []


async def test_a_write_that_the_database_rejects_leaves_the_state(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    graph = paid_beside_a_question(saver, sql="INSERT INTO journal (seq, line) VALUES (1, $1)")
    await bank.do(LOG, "first")
    await graph.ainvoke({"seen": []}, thread)
    with pytest.raises(StagedWriteFailed):
        await graph.aupdate_state(thread, None, as_node=END)
    assert (await graph.aget_state(thread)).values["seen"] == []


async def test_an_update_as_a_node_takes_no_results_and_no_writes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    graph = paid_beside_a_question(saver)
    await graph.ainvoke({"seen": []}, thread)
    await graph.aupdate_state(thread, {"seen": ["by hand"]}, as_node="asks")
    assert (await graph.aget_state(thread)).values["seen"] == ["by hand"]
    assert await bank.journal() == []


async def test_two_that_end_the_same_super_step_by_hand_write_once(
    saver: TransactionalSaver, bank: Bank, between: Between
) -> None:
    graph, thread = paid_beside_a_question(saver), config_of("t")
    await graph.ainvoke({"seen": []}, thread)

    async def first() -> None:
        await graph.aupdate_state(thread, None, as_node=END)

    between.act = first
    with pytest.raises((StaleRun, StepConflict)):
        await graph.aupdate_state(thread, None, as_node=END)
    assert await bank.journal() == ["saw 100"]
    assert (await graph.aget_state(thread)).values["seen"] == [100]


END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


def lose_answers_of(times: int, database_url: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The server ends connections when it has stored a change from outside, before that is told: so often."""
    left, put = [times], outside.put_outside

    async def lost(conn: Any, *args: Any, **kwargs: Any) -> bool:
        stored = await put(conn, *args, **kwargs)
        if left[0]:
            left[0] -= 1
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(END_OTHERS)
            await conn.execute("SELECT 1")
        return stored

    monkeypatch.setattr(outside, "put_outside", lost)
    return left


async def run_to_its_end(saver: TransactionalSaver, thread: RunnableConfig) -> list[str]:
    await counting(saver).ainvoke({"n": 0}, thread)
    return await fetch_ids(saver, thread)


async def test_an_update_whose_answer_is_lost_is_stored_once(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, before = counting(saver), len(await run_to_its_end(saver, thread))
    left = lose_answers_of(1, database_url, monkeypatch)
    await graph.aupdate_state(thread, {"n": 7})
    assert left == [0]
    assert len(await fetch_ids(saver, thread)) == before + 1
    assert (await graph.aget_state(thread)).values["n"] == 7


async def test_a_fork_whose_answer_is_lost_is_not_repeated_and_it_is_said(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, before = counting(saver), await run_to_its_end(saver, thread)
    left = lose_answers_of(1, database_url, monkeypatch)
    with pytest.raises(DatabaseUnavailable, match="not known"):
        await graph.aupdate_state(config_of(thread["configurable"]["thread_id"], checkpoint_id=before[-1]), {"n": 7})
    assert left == [0]
    assert len(await fetch_ids(saver, thread)) == len(before) + 1
