"""Reducers on the channels of a graph: in the order of the tasks' paths, and back from the database."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph._internal._constants import OVERWRITE
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import InvalidUpdateError
from langgraph.graph import START, StateGraph
from langgraph.pregel._algo import PregelTaskWrites, apply_writes
from langgraph.types import Overwrite
from pydantic import BaseModel

from superstep import current_step, transactional
from superstep.checkpointer.shared import channel
from superstep.reducers import (
    Conflict,
    append,
    compare_and_set,
    conflicts_in,
    last_writer,
    maximum,
    merge,
    reject,
    swap,
)
from superstep.runtime.faults import UpdateInvalid, WriteRefused
from tests.support.graphs import steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep import TransactionalSaver


class Finding(BaseModel):
    id: int
    by: str


class State(TypedDict, total=False):
    log: Annotated[list[Finding], append(key=lambda finding: finding.id)]
    best: Annotated[int, maximum()]
    plan: Annotated[dict[str, Any], merge(steps=append())]
    owner: Annotated[str, last_writer()]
    lock: Annotated[str, compare_and_set()]
    verdict: Annotated[str, reject()]


NAMES = ["a", "b", "c"]


def written(name: str) -> dict[str, Any]:
    at = NAMES.index(name)
    return {
        "log": [Finding(id=1, by=name), Finding(id=10 + at, by=name)],
        "best": [5, 9, 7][at],
        "plan": {"steps": [name], "last": name},
        "owner": name,
        "lock": swap(None, name),
        "verdict": "yes",
    }


def side_by_side(saver: Any, write: Any = written, state: Any = State) -> Any:
    """Three tasks in one super-step, then one that looks."""
    builder = StateGraph(state)
    for name in NAMES:

        def node(_: Any, name: str = name) -> Any:
            return write(name)

        builder.add_node(name, node).add_edge(START, name).add_edge(name, "end")
    return builder.add_node("end", lambda _: {}).compile(checkpointer=saver)


EXPECTED = {
    "log": [Finding(id=1, by="a"), *(Finding(id=10 + at, by=name) for at, name in enumerate(NAMES))],
    "best": 9,
    "plan": {"steps": NAMES, "last": "c"},
    "owner": "c",
    "lock": "a",
    "verdict": "yes",
}


async def test_conflicts_are_resolved_told_and_counted(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    graph = side_by_side(saver)
    result = await transactional(graph).ainvoke({}, thread)
    assert result == EXPECTED
    assert (await graph.aget_state(thread)).values == EXPECTED
    found = await saver.with_classes(frozenset({Finding})).aget_tuple(thread)
    assert found is not None
    told = conflicts_in(found.checkpoint["channel_values"])
    assert told == {
        "log": [Conflict(Finding(id=1, by="a"), Finding(id=1, by=name)) for name in "bc"],
        "best": [Conflict(9, 5), Conflict(9, 7)],
        "plan": [Conflict("b", "a", ("last",)), Conflict("c", "b", ("last",))],
        "owner": [Conflict("b", "a"), Conflict("c", "b")],
        "lock": [Conflict("a", "b"), Conflict("a", "c")],
    }
    first, last = [step for step in await steps_of(saver, thread) if step.nodes]
    assert (first.resolved, last.resolved) == (10, 0)


async def test_the_record_goes_with_the_next_write_and_values_are_stored_as_themselves(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    graph = side_by_side(saver)
    await graph.ainvoke({}, thread)
    await graph.aupdate_state(thread, {"owner": "d", "log": [Finding(id=2, by="d")]}, as_node="end")
    found = await saver.with_classes(frozenset({Finding})).aget_tuple(thread)
    assert found is not None
    values = found.checkpoint["channel_values"]
    assert values["owner"] == "d"
    assert values["log"] == [*EXPECTED["log"], Finding(id=2, by="d")]  # type: ignore[misc]
    assert set(conflicts_in(values)) == {"best", "plan", "lock"}


async def test_a_channel_may_get_a_reducer_and_lose_it(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    class Plain(TypedDict, total=False):
        owner: str

    class Reduced(TypedDict, total=False):
        owner: Annotated[str, last_writer()]

    def node(state: Any) -> Any:
        return {"owner": state.get("owner", "") + "x"}

    for state in (Plain, Reduced, Plain):
        graph = StateGraph(state).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
        result = await graph.ainvoke({}, thread)
    assert result == {"owner": "xxx"}


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_arrival_does_not_matter(seed: int) -> None:
    graph = side_by_side(None)
    tasks = [PregelTaskWrites(("~__pregel_pull", name), name, list(written(name).items()), ["x"]) for name in NAMES]
    random.Random(seed).shuffle(tasks)
    channels = {name: each.from_checkpoint(channel._NOTHING) for name, each in graph.channels.items()}
    checkpoint: Any = {"versions_seen": {}, "channel_versions": {}}
    apply_writes(checkpoint, channels, tasks, None, {})
    assert {name: channels[name].get() for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("saver_of", [InMemorySaver])
def test_it_works_with_any_saver(saver_of: Any, thread: RunnableConfig) -> None:
    graph = side_by_side(saver_of())
    assert graph.invoke({}, thread) == EXPECTED
    assert graph.get_state(thread).values == EXPECTED


def test_before_the_first_write_there_is_what_there_can_be(thread: RunnableConfig) -> None:
    seen: list[Any] = []

    def look(state: State) -> Any:
        seen.append(dict(state))
        return {}

    graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()
    graph.invoke({"owner": "x"})
    assert seen == [{"log": [], "plan": {}, "owner": "x"}]


async def test_a_graph_of_a_pydantic_state(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    class Model(BaseModel):
        log: Annotated[list[str], append(unique=True)] = []

    result = await side_by_side(saver, lambda name: {"log": ["x", name]}, Model).ainvoke({"log": ["0"]}, thread)
    assert result["log"] == ["0", "x", "a", "b", "c"]


Log = Annotated[list[str], append(key="id")]


class Two(TypedDict):
    one: Log
    two: Log


def test_two_keys_of_one_annotation_are_two_channels() -> None:
    with pytest.raises(UpdateInvalid, match="Channel 'one'"):
        side_by_side(None, lambda _: {"one": ["x"]}, Two).invoke({})
    with pytest.raises(UpdateInvalid, match="Channel 'two'"):
        side_by_side(None, lambda _: {"two": ["x"]}, Two).invoke({})


async def test_what_a_reducer_refuses_ends_the_run_and_nothing_is_lost(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    ran: list[str] = []

    def write(name: str) -> Any:
        ran.append(name)
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", name)
        return {"verdict": name, "owner": name}

    graph = side_by_side(saver, write)
    with pytest.raises(WriteRefused, match=r"Channel 'verdict'.*reject\(\)"):
        await graph.ainvoke({}, thread)
    with pytest.raises(WriteRefused):
        await graph.ainvoke(None, thread)
    assert sorted(ran) == NAMES  # their results are kept
    found = await saver.aget_tuple(thread)
    assert found is not None
    assert "owner" not in found.checkpoint["channel_values"]
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM journal") == 0


def test_overwriting_is_what_it_is_in_langgraph() -> None:
    assert channel._OVERWRITE == OVERWRITE
    graph = side_by_side(None, lambda name: {"log": Overwrite([1]) if name == "b" else [Finding(id=5, by=name)]})
    assert graph.invoke({})["log"] == [1]
    graph = side_by_side(None, lambda name: {"log": {"__overwrite__": [name]} if name == "b" else []})
    assert graph.invoke({})["log"] == ["b"]
    with pytest.raises(InvalidUpdateError):
        side_by_side(None, lambda name: {"log": Overwrite([1])}).invoke({})
