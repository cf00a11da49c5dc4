"""Streams of `transactional(graph)`: LangGraph's own while nothing conflicts, each super-step once when it does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.graphs import State, chain, fan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank

BALANCE = "SELECT balance FROM account WHERE id = $1"
LOG = "INSERT INTO journal (line) VALUES ($1)"

# What differs between two runs of the same graph: identifiers, times, and which saver it was.
VOLATILE = frozenset(
    {
        "id",
        "ts",
        "timestamp",
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "langgraph_checkpoint_ns",
        "checkpoint_map",
        "run_id",
        "ls_integration",
        "versions",
        "lc_versions",
        "__superstep_options",
        "parents",
    }
)


def scrub(value: Any) -> Any:
    """A chunk without what differs from run to run."""
    if isinstance(value, BaseMessage):
        return (type(value).__name__, value.content)
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items() if key not in VOLATILE}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: scrub(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in VOLATILE}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, str) and ":" in value:
        return "|".join(part.partition(":")[0] for part in value.split("|"))  # a namespace: node names without task ids
    return value


def fake_model() -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter(AIMessage(f"hello world number {n}") for n in range(100)), cache=False)


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
    builder.add_node("sub", chain(None, inner_one, inner_two))  # type: ignore[arg-type]
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


def by_mode(chunks: list[Any], mode: Any, *, subgraphs: bool, version: str) -> dict[Any, list[Any]]:
    """Chunks apart by namespace and mode: LangGraph promises an order within one mode."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for chunk in chunks:
        ns: Any = ()
        name = mode
        if version == "v2":
            ns, name = tuple(chunk["ns"]), chunk["type"]
        elif isinstance(mode, list):
            ns, name = (chunk[0], chunk[1]) if subgraphs else ((), chunk[0])
        elif subgraphs:
            ns = chunk[0]
        found["|".join(part.partition(":")[0] for part in ns), name].append(scrub(chunk))
    return dict(found)


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


async def test_invoke_returns_what_langgraph_returns(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def ask(state: Any) -> Any:
        return {"seen": [interrupt("sure?")]}

    plain, ours = chain(InMemorySaver(), ask), transactional(chain(saver, ask))
    for given in ({"n": 1, "seen": []}, Command(resume="yes")):
        assert scrub(await ours.ainvoke(given, thread)) == scrub(await plain.ainvoke(given, thread))
    for options in ({"stream_mode": "updates"}, {"version": "v2"}, {"stream_mode": ["updates", "values"]}):
        expected = await plain.ainvoke({"n": 1, "seen": []}, {"configurable": {"thread_id": "i"}}, **options)
        got = await ours.ainvoke({"n": 1, "seen": []}, {"configurable": {"thread_id": "i"}}, **options)
        assert scrub(got) == scrub(expected)
        for graph in (plain, ours):
            await graph.checkpointer.adelete_thread("i")


# -- conflicts -----------------------------------------------------------------------------------------------------


class Trouble:
    """Changes account 1 from outside after a node's first read, as often as it is told."""

    def __init__(self, bank: Bank, times: int) -> None:
        self._bank = bank
        self.left = times
        self.reads: list[int] = []
        self._has_read = asyncio.Event()
        self._changed = asyncio.Event()

    async def after_read(self, value: int) -> None:
        self.reads.append(value)
        if self.left:
            self._changed.clear()
            self._has_read.set()
            await self._changed.wait()

    async def outside(self) -> None:
        """The other flow."""
        while self.left:
            await self._has_read.wait()
            self._has_read.clear()
            await self._bank.set(10 * self.left)
            self.left -= 1
            self._changed.set()


def troubled(saver: TransactionalSaver, trouble: Trouble) -> CompiledStateGraph[Any]:
    async def first(state: Any) -> Any:
        get_stream_writer()("first")
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        get_stream_writer()("second")
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await trouble.after_read(value)
        step.stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        step.stage(LOG, "second")
        return {"seen": [value]}

    async def third(state: Any) -> Any:
        current_step().stage(LOG, "third")
        return {"seen": ["third"]}

    return chain(saver, first, second, third)


async def lines(bank: Bank) -> list[str]:
    return [row["line"] for row in await bank.do("SELECT line FROM journal ORDER BY seq")]


def all_returned(saver: TransactionalSaver) -> bool:
    return saver.database.connections.lent == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_updates_of_a_conflicting_step_come_once_and_after_its_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, times: int
) -> None:
    trouble = Trouble(bank, times)
    flow = transactional(troubled(saver, trouble))
    conflicts: list[tuple[str, ...]] = []
    flow.on_conflict = lambda conflict: conflicts.append(conflict.tasks)
    outside = asyncio.create_task(trouble.outside())
    seen = []
    async with asyncio.timeout(30):
        async for chunk in flow.astream({"seen": []}, thread, stream_mode="updates"):
            seen.append(chunk)
            assert (await lines(bank))[: len(seen)] == ["first", "second", "third"][: len(seen)]
    await outside
    assert seen == [{"first": {"seen": ["first"]}}, {"second": {"seen": [10]}}, {"third": {"seen": ["third"]}}]
    assert trouble.reads == [100, *(10 * n for n in range(times, 0, -1))]
    assert conflicts == [("second",)] * times
    assert await lines(bank) == ["first", "second", "third"]
    assert all_returned(saver)


@pytest.mark.parametrize("times", [1, 2])
async def test_values_of_a_conflicting_step_come_once_and_after_its_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, times: int
) -> None:
    trouble = Trouble(bank, times)
    outside = asyncio.create_task(trouble.outside())
    seen = []
    async with asyncio.timeout(30):
        async for chunk in transactional(troubled(saver, trouble)).astream({"seen": []}, thread, stream_mode="values"):
            seen.append(chunk["seen"])
            assert len(await lines(bank)) >= len(chunk["seen"])
    await outside
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
        trouble = Trouble(bank, times)
        outside = asyncio.create_task(trouble.outside())
        flow = transactional(troubled(saver, trouble))
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        async with asyncio.timeout(30):
            stream = flow.astream({"seen": []}, config, stream_mode=mode, version=version, subgraphs=subgraphs)
            streams.append(by_mode([c async for c in stream], mode, subgraphs=subgraphs, version=version))
        await outside
    assert streams[0] == streams[1]


async def test_tasks_of_a_conflicting_step(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Each task's result is shown once, that of the attempt that committed."""
    trouble = Trouble(bank, 2)
    outside = asyncio.create_task(trouble.outside())
    async with asyncio.timeout(30):
        stream = transactional(troubled(saver, trouble)).astream({"seen": []}, thread, stream_mode="tasks")
        chunks = [c async for c in stream]
    await outside
    results = [(c["name"], c["result"]["seen"]) for c in chunks if "result" in c]
    assert results == [("first", ["first"]), ("second", [10]), ("third", ["third"])]
    assert [c["name"] for c in chunks if "input" in c] == ["first", "second", "third"]


async def test_parallel_tasks_of_a_conflicting_step_are_shown_once_each(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The finished sibling keeps its result and is not run again; its update still comes once, with the commit."""
    trouble = Trouble(bank, 1)
    runs: list[str] = []

    async def drifting(state: Any) -> Any:
        runs.append("drifting")
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await trouble.after_read(value)
        step.stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        step.stage(LOG, "drifting")
        return {"seen": [value]}

    async def steady(state: Any) -> Any:
        runs.append("steady")
        current_step().stage(LOG, "steady")
        return {"seen": ["steady"]}

    outside = asyncio.create_task(trouble.outside())
    seen = []
    async with asyncio.timeout(30):
        flow = transactional(fan(saver, drifting, steady))
        async for chunk in flow.astream({"seen": []}, thread, stream_mode="updates"):
            seen.append(chunk)
            assert sorted(await lines(bank)) == ["drifting", "steady"]
    await outside
    assert sorted(runs) == ["drifting", "drifting", "steady"]
    assert sorted(seen, key=str) == [{"drifting": {"seen": [10]}}, {"steady": {"seen": ["steady"]}}]


async def test_subgraph_chunks_of_a_conflicting_inner_step_come_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    trouble = Trouble(bank, 2)

    async def one(state: Any) -> Any:
        current_step().stage(LOG, "one")
        return {"seen": ["one"]}

    async def two(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await trouble.after_read(value)
        step.stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        step.stage(LOG, "two")
        return {"seen": [value]}

    builder = StateGraph(State)
    builder.add_node("sub", chain(None, one, two))  # type: ignore[arg-type]
    builder.add_edge(START, "sub")
    flow = transactional(builder.compile(checkpointer=saver))
    outside = asyncio.create_task(trouble.outside())
    seen = []
    async with asyncio.timeout(30):
        async for ns, chunk in flow.astream({"seen": []}, thread, stream_mode="updates", subgraphs=True):
            seen.append(("|".join(part.partition(":")[0] for part in ns), chunk))
            assert (await lines(bank))[: len(seen)] == ["one", "two"][: len(seen)]
    await outside
    assert seen == [
        ("sub", {"one": {"seen": ["one"]}}),
        ("sub", {"two": {"seen": [10]}}),
        ("", {"sub": {"seen": ["one", 10]}}),
    ]


async def test_a_question_withdrawn_by_a_conflict_is_shown_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One task asks while its sibling drifts: the stream ends with one question."""
    trouble = Trouble(bank, 1)

    async def ask(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 2)
        return {"seen": [interrupt(value)]}

    async def drifting(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await trouble.after_read(value)
        step.stage("UPDATE account SET note = 'mine' WHERE id = 1", expect_rows=1)
        return {"seen": [value]}

    flow = transactional(fan(saver, ask, drifting))
    outside = asyncio.create_task(trouble.outside())
    async with asyncio.timeout(30):
        chunks = [c async for c in flow.astream({"seen": []}, thread, stream_mode="updates")]
        await outside
        assert [[i.value for i in c["__interrupt__"]] for c in chunks if "__interrupt__" in c] == [[100]]
        chunks = [c async for c in flow.astream(Command(resume="yes"), thread, stream_mode="updates")]
    assert sorted(chunks, key=str) == [{"ask": {"seen": ["yes"]}}, {"drifting": {"seen": [10]}}]
    assert (await bank.do("SELECT note FROM account WHERE id = 1"))[0]["note"] == "mine"


# -- live chunks ---------------------------------------------------------------------------------------------------


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


async def test_tokens_of_an_abandoned_attempt_have_been_shown(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Live chunks are live: an attempt that conflicts later has already shown them. Updates still come once."""
    trouble = Trouble(bank, 1)
    outside = asyncio.create_task(trouble.outside())
    async with asyncio.timeout(30):
        stream = transactional(troubled(saver, trouble)).astream(
            {"seen": []}, thread, stream_mode=["custom", "updates"]
        )
        chunks = [c async for c in stream]
    await outside
    assert [data for mode, data in chunks if mode == "custom"] == ["first", "second", "second"]
    assert [next(iter(data)) for mode, data in chunks if mode == "updates"] == ["first", "second", "third"]


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


# -- endings -------------------------------------------------------------------------------------------------------


def three(saver: TransactionalSaver, runs: list[str]) -> CompiledStateGraph[Any]:
    def writer(name: str) -> Any:
        async def node(state: Any) -> Any:
            runs.append(name)
            step = current_step()
            await step.fetchval(BALANCE, 1)
            step.stage(LOG, name)
            return {"seen": [name]}

        node.__name__ = name
        return node

    return chain(saver, writer("first"), writer("second"), writer("third"))


@pytest.mark.parametrize("how", ["aclose", "break", "cancel"])
async def test_leaving_a_stream_early_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, how: str
) -> None:
    runs: list[str] = []
    flow = transactional(three(saver, runs))
    has_first = asyncio.Event()

    async def consume() -> None:
        stream = flow.astream({"seen": []}, thread, stream_mode="updates")
        async with aclosing(stream):
            async for chunk in stream:
                assert chunk == {"first": {"seen": ["first"]}}
                has_first.set()
                if how == "aclose":
                    await stream.aclose()
                if how != "cancel":
                    break
                await asyncio.Event().wait()

    async with asyncio.timeout(30):
        consumer = asyncio.create_task(consume())
        await has_first.wait()
        if how == "cancel":
            consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        assert all_returned(saver)
        assert saver.runs.active == set()
        result = await flow.ainvoke(None, thread)
    assert result["seen"] == ["first", "second", "third"]
    assert await lines(bank) == ["first", "second", "third"]
    assert all_returned(saver)


async def test_cancelling_a_node_at_work_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    working, patient = asyncio.Event(), [False]

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "second")
        if not patient[0]:
            working.set()
            await asyncio.Event().wait()
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    async with asyncio.timeout(30):
        task = asyncio.create_task(flow.ainvoke({"seen": []}, thread))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all_returned(saver)
        assert await lines(bank) == ["first"]
        patient[0] = True
        assert (await flow.ainvoke(None, thread))["seen"] == ["first", "second"]
    assert await lines(bank) == ["first", "second"]
    assert (await flow.areport(thread)).status == "completed"


@pytest.mark.parametrize("mode", ["updates", "values"])
async def test_an_exception_in_a_node_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, mode: Any
) -> None:
    broken = [True]

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "second")
        if broken[0]:
            raise ValueError("out of paper")
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    seen: list[Any] = []

    async def collect(given: Any) -> None:
        seen.clear()
        stream = flow.astream(given, thread, stream_mode=mode)
        await _into(seen, stream, lambda chunk: chunk["seen"] if mode == "values" else chunk)

    with pytest.raises(ValueError, match="out of paper"):
        await collect({"seen": []})
    assert seen == ([[], ["first"]] if mode == "values" else [{"first": {"seen": ["first"]}}])
    assert all_returned(saver)
    assert (await flow.areport(thread)).status == "failed"
    broken[0] = False
    await collect(None)
    expected = [["first"], ["first", "second"]] if mode == "values" else [{"second": {"seen": ["second"]}}]
    assert seen == expected
    assert await lines(bank) == ["first", "second"]
    assert all_returned(saver)
    assert (await flow.areport(thread)).status == "completed"


async def test_a_sibling_of_a_failing_node_is_not_lost(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What had finished is kept with its staged writes, and is neither run nor written twice."""
    broken, runs = [True], []
    finished = asyncio.Event()

    async def fine(state: Any) -> Any:
        runs.append("fine")
        current_step().stage(LOG, "fine")
        finished.set()
        return {"seen": ["fine"]}

    async def failing(state: Any) -> Any:
        await finished.wait()
        for _ in range(3):
            await current_step().fetchval(BALANCE, 1)  # round trips: the sibling's result is saved meanwhile
        if broken[0]:
            raise ValueError("out of paper")
        return {"seen": ["failing"]}

    flow = transactional(fan(saver, failing, fine))
    seen: list[Any] = []

    async def collect(given: Any) -> None:
        seen.clear()
        await _into(seen, flow.astream(given, thread, stream_mode="updates"))

    with pytest.raises(ValueError, match="out of paper"):
        await collect({"seen": []})
    assert seen == []
    assert await lines(bank) == []
    broken[0] = False
    await collect(None)
    assert [chunk for chunk in seen if "failing" in chunk] == [{"failing": {"seen": ["failing"]}}]
    (kept,) = [chunk for chunk in seen if "fine" in chunk]
    assert kept == {"fine": {"seen": ["fine"]}, "__metadata__": {"cached": True}}  # LangGraph's word for a kept result
    assert len(seen) == 2
    assert runs == ["fine"]
    assert await lines(bank) == ["fine"]


async def _into(seen: list[Any], stream: AsyncIterator[Any], shape: Any = None) -> None:
    """Collect chunks one by one, so that those before an error are there after it."""
    async for chunk in stream:
        seen += [shape(chunk) if shape else chunk]
