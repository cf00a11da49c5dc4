"""Delta channels: histories, forks, copies and pruned threads say what LangGraph's own saver says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import StaleRun
from tests.support.graphs import config_of
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def extend(items: list[Any], writes: Sequence[Any]) -> list[Any]:
    return [*items, *(item for write in writes for item in write)]


def delta_graph(saver: Any, frequency: int) -> CompiledStateGraph[Any]:
    """Two parallel writers of a delta channel, then a third; `n` says which turn it is."""

    delta = DeltaChannel(extend, list, snapshot_frequency=frequency)
    turns = TypedDict("turns", {"n": int, "log": Annotated[list[str], delta]}, total=False)  # noqa: UP013 - resolved here

    def writer(name: str) -> Any:
        async def write(state: Any) -> Any:
            return {"log": [f"{name}{state['n']}:{len(state.get('log', []))}"]}

        return write

    builder = StateGraph(turns)
    for name in ("left", "right", "last"):
        builder.add_node(name, writer(name))
    builder.add_edge(START, "left")
    builder.add_edge(START, "right")
    builder.add_edge(["left", "right"], "last")
    return builder.compile(checkpointer=saver)


async def values_of(graph: CompiledStateGraph[Any], config: RunnableConfig) -> list[Any]:
    return [snapshot.values async for snapshot in graph.aget_state_history(config)]


@pytest.mark.parametrize("frequency", [1, 3, 1000])
async def test_delta_channel_of_a_linear_thread(saver: TransactionalSaver, frequency: int) -> None:
    histories = []
    for checkpointer in (saver, InMemorySaver()):
        graph = delta_graph(checkpointer, frequency)
        for n in range(6):
            await graph.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("t"))
        histories.append(await values_of(graph, config_of("t")))
    assert histories[0] == histories[1]
    assert len(histories[0][0]["log"]) == 24


@pytest.mark.parametrize("frequency", [2, 1000])
async def test_delta_channel_of_a_forked_thread(saver: TransactionalSaver, frequency: int) -> None:
    """Both branches, and everything before them, say what LangGraph's own saver says."""
    histories = []
    for checkpointer in (saver, InMemorySaver()):
        graph = delta_graph(checkpointer, frequency)
        for n in range(3):
            await graph.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("t"))
        snapshots = [snapshot async for snapshot in graph.aget_state_history(config_of("t"))]
        old = snapshots[len(snapshots) // 2].config
        branch = await graph.aupdate_state(old, {"log": ["fork"]}, as_node="last")
        await graph.ainvoke({"n": 7, "log": ["on the fork"]}, branch)
        again = await graph.aupdate_state(snapshots[3].config, {"log": ["other fork"]}, as_node="last")
        await graph.ainvoke({"n": 8, "log": ["on the other fork"]}, again)
        tips = [
            (await graph.aget_state(tip)).values for tip in (config_of("t"), branch, again, old, snapshots[0].config)
        ]
        histories.append((tips, await values_of(graph, config_of("t"))))
    assert histories[0] == histories[1]


def idle_graph(saver: Any, frequency: int) -> CompiledStateGraph[Any]:
    """A delta channel that is written once, and steps after that which write another one."""

    kind = Annotated[list[str], DeltaChannel(extend, list, snapshot_frequency=frequency)]
    state = TypedDict("state", {"log": kind, "idle": kind}, total=False)  # noqa: UP013 - resolved here

    async def node(state: Any) -> Any:
        return {"log": ["node"]}

    builder = StateGraph(state)
    for name in ("first", "second", "third"):
        builder.add_node(name, node)
    builder.add_edge(START, "first").add_edge("first", "second").add_edge("second", "third")
    return builder.compile(checkpointer=saver)


SERIALIZERS = [None, EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(), key=b"0123456789abcdef")]


@pytest.mark.parametrize("serde", SERIALIZERS, ids=["plain", "encrypted"])
@pytest.mark.parametrize("frequency", [1, 2, 1000])
async def test_a_snapshot_belongs_to_every_checkpoint_until_the_channel_is_written(
    database_url: str, frequency: int, serde: SerializerProtocol | None
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        stored = [await _idle_values(checkpointer, frequency) for checkpointer in (saver, InMemorySaver())]
        assert stored[0] == stored[1]
        assert any("idle" in values for values in stored[0]) == (frequency < 1000)
        await saver.aprune(["t"], strategy="keep_latest")
        await saver.acopy_thread("t", "copy")
        for thread in ("t", "copy"):
            assert (await idle_graph(saver, frequency).aget_state(config_of(thread))).values["idle"] == ["a", "b"]


async def _idle_values(saver: Any, frequency: int) -> list[dict[str, Any]]:
    """What each checkpoint of a thread has of its delta channels, newest first."""
    graph = idle_graph(saver, frequency)
    for given in ({"log": ["in"], "idle": ["a"]}, {"log": ["in"]}, {"idle": ["b"]}, {"log": ["in"]}):
        await graph.ainvoke(given, config_of("t"))
    listed = [found.checkpoint["channel_values"] async for found in saver.alist(config_of("t"))]
    assert (await saver.aget_tuple(config_of("t"))).checkpoint["channel_values"] == listed[0]
    assert (await graph.aget_state(config_of("t"))).values["idle"] == ["a", "b"]
    return [{name: values[name] for name in ("log", "idle") if name in values} for values in listed]


@pytest.mark.parametrize("frequency", [2, 4, 1000])
async def test_delta_channel_after_pruning_and_going_on(saver: TransactionalSaver, frequency: int) -> None:
    graph, twin = delta_graph(saver, frequency), delta_graph(InMemorySaver(), frequency)
    for n in range(4):
        for each in (graph, twin):
            await each.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("t"))
        await saver.aprune(["t"], strategy="keep_latest")
        assert (await graph.aget_state(config_of("t"))).values == (await twin.aget_state(config_of("t"))).values
    kept = len([found async for found in saver.alist(config_of("t"))])
    everything = len(await values_of(twin, config_of("t")))
    assert kept == everything if frequency == 1000 else kept < everything  # without a snapshot all of it is needed


async def test_delta_channel_in_a_copied_thread(saver: TransactionalSaver) -> None:
    graph = delta_graph(saver, 1000)
    for n in range(3):
        await graph.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("source"))
    await saver.acopy_thread("source", "copy")
    before = await values_of(graph, config_of("source"))
    assert await values_of(graph, config_of("copy")) == before
    await graph.ainvoke({"n": 3, "log": ["in3"]}, config_of("copy"))
    await saver.adelete_thread("source")
    assert (await values_of(graph, config_of("copy")))[-len(before) :] == before
    assert len((await graph.aget_state(config_of("copy"))).values["log"]) == 16


async def test_delta_channel_of_a_step_that_conflicted(saver: TransactionalSaver, bank: Bank) -> None:
    """The writes of the abandoned attempt are not replayed."""
    race = Race(bank, 55)

    class Log(TypedDict, total=False):
        log: Annotated[list[int], DeltaChannel(extend, list, snapshot_frequency=1000)]

    async def node(state: Any) -> Any:
        return {"log": [await race.decide()]}

    builder = StateGraph(Log)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    flow = transactional(builder.compile(checkpointer=saver))
    await flow.ainvoke({"log": [0]}, config_of("t"))
    await flow.ainvoke({"log": [1]}, config_of("t"))
    assert (await flow.aget_state(config_of("t"))).values["log"] == [0, 55, 1, 54]


async def test_writes_of_an_update_that_came_too_late_are_no_part_of_the_channel(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangGraph stores them before the checkpoint, beside one that a run has gone past meanwhile."""
    graph = delta_graph(saver, 1000)
    await graph.ainvoke({"n": 0, "log": ["in"]}, config_of("t"), interrupt_before=["last"])
    load = saver.aget_tuple

    async def late(config: RunnableConfig) -> Any:
        found = await load(config)
        monkeypatch.undo()
        await asyncio.create_task(graph.ainvoke(None, config_of("t")))
        return found

    monkeypatch.setattr(saver, "aget_tuple", late)
    with pytest.raises(StaleRun):
        await graph.aupdate_state(config_of("t"), {"log": ["late"]}, as_node="left")
    assert (await graph.aget_state(config_of("t"))).values["log"] == ["in", "left0:1", "right0:1", "last0:3"]
