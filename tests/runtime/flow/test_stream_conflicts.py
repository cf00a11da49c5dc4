"""Streams of conflicting super-steps: each is shown once, after its commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.runtime.flow.streams import by_mode
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain, config_of, fan
from tests.support.internals import pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def tens(times: int) -> list[int]:
    """So many balances; the last one is 10."""
    return [10 * n for n in range(times, 0, -1)]


def troubled(saver: TransactionalSaver, race: Race) -> CompiledStateGraph[Any]:
    async def first(state: Any) -> Any:
        get_stream_writer()("first")
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        get_stream_writer()("second")
        value = await race.read()
        step = current_step()
        step.stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        step.stage(LOG, "second")
        return {"seen": [value]}

    async def third(state: Any) -> Any:
        current_step().stage(LOG, "third")
        return {"seen": ["third"]}

    return chain(saver, first, second, third)


@pytest.mark.parametrize("times", [1, 2])
async def test_updates_of_a_conflicting_step_come_once_and_after_its_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, times: int
) -> None:
    race = Race(bank, *tens(times))
    flow = transactional(troubled(saver, race))
    conflicts: list[tuple[str, ...]] = []
    flow.on_conflict = lambda conflict: conflicts.append(conflict.tasks)
    seen = []
    async with asyncio.timeout(30):
        async for chunk in flow.astream({"seen": []}, thread, stream_mode="updates"):
            seen.append(chunk)
            assert (await bank.journal())[: len(seen)] == ["first", "second", "third"][: len(seen)]
    assert seen == [{"first": {"seen": ["first"]}}, {"second": {"seen": [10]}}, {"third": {"seen": ["third"]}}]
    assert race.seen == [100, *(10 * n for n in range(times, 0, -1))]
    assert conflicts == [("second",)] * times
    assert await bank.journal() == ["first", "second", "third"]
    assert pinned(saver) == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_values_of_a_conflicting_step_come_once_and_after_its_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, times: int
) -> None:
    race = Race(bank, *tens(times))
    seen = []
    async with asyncio.timeout(30):
        async for chunk in transactional(troubled(saver, race)).astream({"seen": []}, thread, stream_mode="values"):
            seen.append(chunk["seen"])
            assert len(await bank.journal()) >= len(chunk["seen"])
    assert seen == [[], ["first"], ["first", 10], ["first", 10, "third"]]


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "mode", ["values", "updates", "tasks", "checkpoints", "debug", ["updates", "values", "checkpoints"]]
)
async def test_a_conflict_leaves_no_trace_in_the_stream(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, mode: Any, version: Any, *, subgraphs: bool
) -> None:
    """The same chunks as a run that meets the changed facts at once."""
    streams = []
    for times, thread_id in ((1, "troubled"), (0, "calm")):
        race = Race(bank, *tens(times))
        flow = transactional(troubled(saver, race))
        config: RunnableConfig = config_of(thread_id)
        async with asyncio.timeout(30):
            stream = flow.astream({"seen": []}, config, stream_mode=mode, version=version, subgraphs=subgraphs)
            streams.append(by_mode([c async for c in stream], mode, subgraphs=subgraphs, version=version))
        assert race.seen == ([100, 10] if times else [10])
    assert streams[0] == streams[1]


async def test_tasks_of_a_conflicting_step(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Each task's result is shown once, that of the attempt that committed."""
    race = Race(bank, 20, 10)
    async with asyncio.timeout(30):
        stream = transactional(troubled(saver, race)).astream({"seen": []}, thread, stream_mode="tasks")
        chunks = [c async for c in stream]
    results = [(c["name"], c["result"]["seen"]) for c in chunks if "result" in c]
    assert results == [("first", ["first"]), ("second", [10]), ("third", ["third"])]
    assert [c["name"] for c in chunks if "input" in c] == ["first", "second", "third"]


async def test_parallel_tasks_of_a_conflicting_step_are_shown_once_each(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The finished sibling keeps its result and is not run again; its update still comes once, with the commit."""
    race = Race(bank, 10)
    runs: list[str] = []

    async def drifting(state: Any) -> Any:
        runs.append("drifting")
        value = await race.decide()
        current_step().stage(LOG, "drifting")
        return {"seen": [value]}

    async def steady(state: Any) -> Any:
        runs.append("steady")
        current_step().stage(LOG, "steady")
        return {"seen": ["steady"]}

    seen = []
    async with asyncio.timeout(30):
        flow = transactional(fan(saver, drifting, steady))
        async for chunk in flow.astream({"seen": []}, thread, stream_mode="updates"):
            seen.append(chunk)
            assert sorted(await bank.journal()) == ["drifting", "steady"]
    assert sorted(runs) == ["drifting", "drifting", "steady"]
    assert sorted(seen, key=str) == [{"drifting": {"seen": [10]}}, {"steady": {"seen": ["steady"]}}]


async def test_subgraph_chunks_of_a_conflicting_inner_step_come_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 20, 10)

    async def one(state: Any) -> Any:
        current_step().stage(LOG, "one")
        return {"seen": ["one"]}

    async def two(state: Any) -> Any:
        value = await race.decide()
        current_step().stage(LOG, "two")
        return {"seen": [value]}

    builder = StateGraph(State)
    builder.add_node("sub", chain(None, one, two))
    builder.add_edge(START, "sub")
    flow = transactional(builder.compile(checkpointer=saver))
    seen = []
    async with asyncio.timeout(30):
        async for ns, chunk in flow.astream({"seen": []}, thread, stream_mode="updates", subgraphs=True):
            seen.append(("|".join(part.partition(":")[0] for part in ns), chunk))
            assert (await bank.journal())[: len(seen)] == ["one", "two"][: len(seen)]
    assert seen == [
        ("sub", {"one": {"seen": ["one"]}}),
        ("sub", {"two": {"seen": [10]}}),
        ("", {"sub": {"seen": ["one", 10]}}),
    ]


async def test_a_question_withdrawn_by_a_conflict_is_shown_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One task asks while its sibling drifts: the stream ends with one question."""
    race = Race(bank, 10)

    async def ask(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 2)
        return {"seen": [interrupt(value)]}

    async def drifting(state: Any) -> Any:
        value = await race.read()
        current_step().stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        return {"seen": [value]}

    flow = transactional(fan(saver, ask, drifting))
    async with asyncio.timeout(30):
        chunks = [c async for c in flow.astream({"seen": []}, thread, stream_mode="updates")]
        assert [[i.value for i in c["__interrupt__"]] for c in chunks if "__interrupt__" in c] == [[100]]
        chunks = [c async for c in flow.astream(Command(resume="yes"), thread, stream_mode="updates")]
    assert sorted(chunks, key=str) == [{"ask": {"seen": ["yes"]}}, {"drifting": {"seen": [10]}}]
    assert (await bank.do("SELECT note FROM account WHERE id = 1"))[0]["note"] == "mine"


async def test_tokens_of_an_abandoned_attempt_have_been_shown(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Live chunks are live: an attempt that conflicts later has already shown them. Updates still come once."""
    race = Race(bank, 10)
    async with asyncio.timeout(30):
        stream = transactional(troubled(saver, race)).astream({"seen": []}, thread, stream_mode=["custom", "updates"])
        chunks = [c async for c in stream]
    assert [data for mode, data in chunks if mode == "custom"] == ["first", "second", "second"]
    assert [next(iter(data)) for mode, data in chunks if mode == "updates"] == ["first", "second", "third"]
