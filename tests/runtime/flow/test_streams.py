"""Streams of `transactional(graph)` are LangGraph's own while nothing conflicts, and live."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.runtime.flow.streams import by_mode, fake_model, scrub
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain, config_of, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def every_kind(saver: Any) -> CompiledStateGraph[Any]:
    """A graph with parallel nodes, a subgraph, Send, Command, tokens, custom events and a node without output."""

    async def talk(state: Any) -> Any:
        get_stream_writer()({"progress": "talking"})
        said = await fake_model().ainvoke("hi")
        return {"seen": [said.content]}

    async def quiet(state: Any) -> None:
        get_stream_writer()("quiet")

    async def inner_one(state: Any) -> Any:
        get_stream_writer()({"inner": 1})
        return {"seen": ["inner one"]}

    async def inner_two(state: Any) -> Any:
        await fake_model().ainvoke("inside")
        return {"seen": ["inner two"]}

    async def scatter(state: Any) -> Command[Any]:
        return Command(goto=[Send("leaf", {"n": i}) for i in range(2)], update={"n": 2})

    async def leaf(state: Any) -> Any:
        return {"seen": [f"leaf {state['n']}"]}

    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_node("quiet", quiet)
    builder.add_node("sub", chain(None, inner_one, inner_two))
    builder.add_node("scatter", scatter, destinations=("leaf",))
    builder.add_node("leaf", leaf)
    builder.add_edge(START, "talk")
    builder.add_edge("talk", "quiet")
    builder.add_edge("quiet", "sub")
    builder.add_edge("sub", "scatter")
    builder.add_edge("leaf", END)
    return builder.compile(checkpointer=saver)


MODES: list[Any] = [
    "values",
    "updates",
    "messages",
    "custom",
    "tasks",
    "checkpoints",
    "debug",
    ["values"],
    ["updates", "values"],
    ["messages", "custom", "updates"],
    ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"],
]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode if isinstance(mode, str) else "+".join(mode))
async def test_streams_are_langgraphs_own_when_nothing_conflicts(
    saver: TransactionalSaver, thread: RunnableConfig, mode: Any, *, subgraphs: bool, version: Any
) -> None:
    options: dict[str, Any] = {"stream_mode": mode, "subgraphs": subgraphs, "version": version}
    theirs = every_kind(InMemorySaver()).astream({"n": 0, "seen": []}, thread, durability="sync", **options)
    ours = transactional(every_kind(saver)).astream({"n": 0, "seen": []}, thread, **options)
    expected = by_mode([c async for c in theirs], mode, subgraphs=subgraphs, version=version)
    assert expected
    assert by_mode([c async for c in ours], mode, subgraphs=subgraphs, version=version) == expected


async def test_default_mode_and_a_second_turn(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    graphs = every_kind(InMemorySaver()), transactional(every_kind(saver))
    for given in ({"n": 0, "seen": []}, {"n": 1}, {"seen": ["again"]}):
        theirs, ours = [[scrub(c) async for c in graph.astream(given, thread)] for graph in graphs]
        assert ours == theirs
    theirs, ours = [await graph.ainvoke({"n": 3}, thread) for graph in graphs]
    assert ours == theirs


@pytest.mark.parametrize("mode", ["values", "updates", "tasks", "checkpoints", "debug", ["updates", "values"]])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_interrupts_are_shown_as_langgraph_shows_them(
    saver: TransactionalSaver, thread: RunnableConfig, mode: Any, version: Any
) -> None:
    async def before(state: Any) -> Any:
        return {"seen": ["before"]}

    async def ask(state: Any) -> Any:
        return {"seen": [interrupt({"sure": state["n"]})]}

    async def after(state: Any) -> Any:
        return {"seen": ["after"]}

    results = []
    for graph in (chain(InMemorySaver(), before, ask, after), transactional(chain(saver, before, ask, after))):
        chunks = []
        for given in ({"n": 1, "seen": []}, Command(resume="yes")):
            stream = graph.astream(given, thread, stream_mode=mode, version=version, durability="sync")
            chunks += [c async for c in stream]
        results.append(by_mode(chunks, mode, subgraphs=False, version=version))
    assert results[1] == results[0]


@pytest.mark.parametrize("mode", ["values", "updates", "tasks", "debug", ["updates", "values"]])
@pytest.mark.parametrize("shape", ["fan", "functional", "subgraph"])
async def test_results_beside_a_question_are_shown_as_langgraph_shows_them(
    saver: TransactionalSaver, thread: RunnableConfig, shape: str, mode: Any
) -> None:
    async def fast(state: Any) -> Any:
        return {"seen": ["fast"]}

    async def ask(state: Any) -> Any:
        await asyncio.sleep(0)
        return {"seen": [interrupt("sure?")]}

    async def after(state: Any) -> Any:
        return {"seen": ["after"]}

    def functional(saver: Any) -> Any:
        fast_task, ask_task = task(fast), task(ask)

        @entrypoint(checkpointer=saver)
        async def flow(state: Any) -> Any:
            return [await fast_task(state), await ask_task(state)]

        return flow

    def subgraph(saver: Any) -> Any:
        builder = StateGraph(State).add_node("fast", fast).add_node("inside", chain(None, fast, ask))
        return builder.add_edge(START, "fast").add_edge(START, "inside").compile(checkpointer=saver)

    make = {"fan": lambda saver: fan(saver, fast, ask, after), "functional": functional, "subgraph": subgraph}[shape]
    results = []
    for graph in (make(InMemorySaver()), transactional(make(saver))):
        chunks = []
        for given in ({"n": 1, "seen": []}, Command(resume="yes")):
            chunks += [c async for c in graph.astream(given, thread, stream_mode=mode, durability="sync")]
        results.append(by_mode(chunks, mode, subgraphs=False, version="v1"))
    assert {key: sorted(map(_text, found)) for key, found in results[1].items()} == {
        key: sorted(map(_text, found)) for key, found in results[0].items()
    }


async def test_invoke_returns_what_langgraph_returns(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def ask(state: Any) -> Any:
        return {"seen": [interrupt("sure?")]}

    plain, ours = chain(InMemorySaver(), ask), transactional(chain(saver, ask))
    for given in ({"n": 1, "seen": []}, Command(resume="yes")):
        assert scrub(await ours.ainvoke(given, thread)) == scrub(await plain.ainvoke(given, thread))
    every: list[dict[str, Any]] = [
        {"stream_mode": "updates"},
        {"version": "v2"},
        {"stream_mode": ["updates", "values"]},
        {"subgraphs": True},
        {"subgraphs": True, "stream_mode": "updates"},
        {"output_keys": ["n"]},
        {"print_mode": "updates"},
        {"debug": True},
    ]
    for options in every:
        expected = await plain.ainvoke({"n": 1, "seen": []}, config_of("i"), **options)
        got = await ours.ainvoke({"n": 1, "seen": []}, config_of("i"), **options)
        assert scrub(got) == scrub(expected)
        for graph in (plain, ours):
            await graph.checkpointer.adelete_thread("i")


async def test_tokens_and_custom_events_arrive_while_the_node_is_running(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    consumer_has_token, consumer_has_event = asyncio.Event(), asyncio.Event()
    finished: list[bool] = []

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        get_stream_writer()("working")
        await consumer_has_event.wait()
        said = await fake_model().ainvoke("hi")
        await consumer_has_token.wait()
        finished.append(True)
        return {"seen": [said.content]}

    tokens = []
    async with asyncio.timeout(30):
        stream = transactional(chain(saver, node)).astream(
            {"seen": []}, thread, stream_mode=["messages", "custom", "updates"]
        )
        async for mode, data in stream:
            if mode == "custom":
                assert not finished
                consumer_has_event.set()
            elif mode == "messages":
                if not tokens:
                    assert not finished
                    consumer_has_token.set()
                tokens.append(data[0].content)
            else:
                assert finished
                assert data == {"node": {"seen": ["hello world number 0"]}}
    assert len(tokens) > 1
    assert "".join(tokens) == "hello world number 0"


async def test_a_chunk_is_not_held_until_the_end_of_the_run(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """A committed super-step is shown while the next one is still at work."""
    consumer_has_first = asyncio.Event()

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        await consumer_has_first.wait()
        return {"seen": ["second"]}

    seen = []
    async with asyncio.timeout(30):
        async for chunk in transactional(chain(saver, first, second)).astream(
            {"seen": []}, thread, stream_mode="updates"
        ):
            seen.append(chunk)
            consumer_has_first.set()
    assert seen == [{"first": {"seen": ["first"]}}, {"second": {"seen": ["second"]}}]


def _text(chunk: Any) -> str:
    return json.dumps(chunk, default=str, sort_keys=True)
