"""The saver as LangGraph sees it: history, forks, delta channels, serialization, deletion, threads of the caller."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import NoActiveStep, StepConflict, ValueNotSerializable
from tests.support.bank import Bank, make_bank
from tests.support.graphs import State, chain, fan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

BALANCE = "SELECT balance FROM account WHERE id = $1"
MARKER = "xyzzy-plugh-0451"
LARGE = 2000  # bytes: far above what a checkpoint keeps inline


def config_of(thread_id: str, **more: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **more}}


async def tables(saver: TransactionalSaver) -> dict[str, list[str]]:
    """The saver's own tables with the names of their bytea columns."""
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT table_name, COALESCE(array_agg(column_name) FILTER (WHERE data_type = 'bytea'), '{}') AS binary "
            "FROM information_schema.columns WHERE table_schema = 'runtime' GROUP BY 1"
        )
    return {row["table_name"]: row["binary"] for row in rows}


# -- delta channels ------------------------------------------------------------------------------------------------


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
    changed: list[bool] = []

    class Log(TypedDict, total=False):
        log: Annotated[list[int], DeltaChannel(extend, list, snapshot_frequency=1000)]

    async def node(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        if not changed:
            changed.append(True)
            await bank.set(55)
        current_step().stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"log": [value]}

    builder = StateGraph(Log)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    flow = transactional(builder.compile(checkpointer=saver))
    await flow.ainvoke({"log": [0]}, config_of("t"))
    await flow.ainvoke({"log": [1]}, config_of("t"))
    assert (await flow.aget_state(config_of("t"))).values["log"] == [0, 55, 1, 54]


# -- checkpoints and their writes ----------------------------------------------------------------------------------


async def put(saver: Any, thread_id: str, parent: RunnableConfig | None = None, **metadata: Any) -> RunnableConfig:
    checkpoint = {**empty_checkpoint(), "id": str(uuid6(clock_seq=-1))}
    config = parent or config_of(thread_id, checkpoint_ns="")
    return await saver.aput(config, checkpoint, {"source": "update", "step": 0, "parents": {}, **metadata}, {})


async def test_pending_writes_come_in_langgraphs_order(saver: TransactionalSaver) -> None:
    found = []
    for checkpointer in (saver, InMemorySaver()):
        config = await put(checkpointer, "t")
        writes = [
            ("task-z", "~__pregel_pull, b", [("x", 1), ("y", 2), ("x", 3)]),
            ("task-a", "~__pregel_push, 0000000010, False", [("x", 4)]),
            ("task-c", "~__pregel_pull, a", [("__interrupt__", "ask"), ("__resume__", ["yes"])]),
            ("task-b", "~__pregel_push, 0000000002, False", [("y", 5), ("x", 6)]),
            ("00000000-0000-0000-0000-000000000000", "", [("__resume__", "answer"), ("x", 7)]),
            ("task-c", "~__pregel_pull, a", [("x", 8)]),
        ]
        for task, path, values in writes:
            await checkpointer.aput_writes(config, values, task, path)
        loaded = await checkpointer.aget_tuple(config)
        assert loaded is not None
        found.append([tuple(write) for write in loaded.pending_writes or ()])
    assert found[0] == found[1]


async def test_metadata_filters(saver: TransactionalSaver) -> None:
    def steps_of(found: list[Any]) -> list[tuple[str, int]]:
        return [(item.metadata["source"], item.metadata["step"]) for item in found]

    async def node(state: Any) -> Any:
        return {"n": state["n"] + 1}

    results = []
    for checkpointer in (saver, InMemorySaver()):
        graph = chain(checkpointer, node)
        await graph.ainvoke({"n": 0}, {**config_of("t"), "metadata": {"tenant": "red", "priority": 2}})
        await graph.ainvoke({"n": 5}, {**config_of("t"), "metadata": {"tenant": "blue"}})
        await graph.aupdate_state(config_of("t"), {"n": 9})
        await graph.ainvoke({"n": 0}, {**config_of("other"), "metadata": {"tenant": "red"}})
        wanted: list[dict[str, Any]] = [
            {},
            {"source": "loop"},
            {"source": "input"},
            {"source": "update"},
            {"source": "loop", "step": 1},
            {"tenant": "red"},
            {"tenant": "red", "priority": 2},
            {"tenant": "green"},
            {"no such key": 1},
        ]
        results.append(
            [
                (which, steps_of([item async for item in checkpointer.alist(config, filter=which)]))
                for which in wanted
                for config in (config_of("t"), config_of("other"), config_of("nobody"))
            ]
        )
        results[-1].append(({}, len([item async for item in checkpointer.alist(None, filter={"tenant": "red"})])))
    assert results[0] == results[1]
    assert steps_of([item async for item in saver.alist(config_of("t"), filter={"tenant": "red"})]) == [
        ("loop", 1),
        ("loop", 0),
        ("input", -1),
    ]


async def test_list_pages_through_more_than_two_pages(saver: TransactionalSaver) -> None:
    config: RunnableConfig | None = None
    ids: list[str] = []
    for n in range(130):
        config = await put(saver, "t", config, step=n)
        ids.append(config["configurable"]["checkpoint_id"])
    for _ in range(3):
        await put(saver, "other")
    ids.reverse()

    async def listed(**options: Any) -> list[str]:
        return [item.checkpoint["id"] async for item in saver.alist(config_of("t"), **options)]

    assert await listed() == ids
    for limit in (0, 1, 49, 50, 51, 100, 120, 130, 500):
        assert await listed(limit=limit) == ids[:limit]
    before = config_of("t", checkpoint_id=ids[4])
    assert await listed(before=before) == ids[5:]
    assert await listed(before=before, limit=101) == ids[5:106]
    assert await listed(before=config_of("t", checkpoint_id=ids[-1])) == []
    assert len([item async for item in saver.alist(None)]) == 133
    assert len([item async for item in saver.alist(None, limit=131)]) == 131
    first = [item.checkpoint["id"] async for item in _first(saver.alist(config_of("t")), 3)]
    assert first == ids[:3]


async def _first(items: Any, count: int) -> Any:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


async def test_list_by_checkpoint_id_and_namespace(saver: TransactionalSaver) -> None:
    first = await put(saver, "t")
    await put(saver, "t", first)
    nested = await put(saver, "t", config_of("t", checkpoint_ns="inner:1"))

    async def listed(config: RunnableConfig) -> list[str]:
        return [item.checkpoint["id"] async for item in saver.alist(config)]

    one = first["configurable"]["checkpoint_id"]
    assert await listed(config_of("t", checkpoint_ns="", checkpoint_id=one)) == [one]
    assert await listed(config_of("t", checkpoint_ns="inner:1")) == [nested["configurable"]["checkpoint_id"]]
    assert len(await listed(config_of("t", checkpoint_ns=""))) == 2
    assert len(await listed(config_of("t"))) == 3


# -- forks and time travel -----------------------------------------------------------------------------------------


def test_versions_grow_and_forks_do_not_collide() -> None:
    saver = object.__new__(TransactionalSaver)
    first = saver.get_next_version(None, None)
    twins = {saver.get_next_version(first, None) for _ in range(200)}
    assert len(twins) == 200
    assert all(version > first for version in twins)
    version, seen = first, [first]
    for _ in range(300):
        version = saver.get_next_version(version, None)
        seen.append(version)
    assert seen == sorted(seen)


async def test_two_branches_of_one_checkpoint_keep_their_own_large_values(saver: TransactionalSaver) -> None:
    async def grow(state: Any) -> Any:
        return {"bag": {**state["bag"], f"turn {state['n']}": "x" * LARGE}}

    graph = chain(saver, grow)
    await graph.ainvoke({"n": 0, "bag": {"root": "r" * LARGE}}, config_of("t"))
    root = (await graph.aget_state(config_of("t"))).config
    tips = []
    for name in ("left", "right"):
        fork = await graph.aupdate_state(root, {"n": 1, "bag": {"branch": name * LARGE}}, as_node="__start__")
        await graph.ainvoke(None, fork)
        tips.append((name, (await graph.aget_state(config_of("t"))).config))
    for name, tip in tips:
        assert (await graph.aget_state(tip)).values["bag"] == {"branch": name * LARGE, "turn 1": "x" * LARGE}
    assert (await graph.aget_state(root)).values["bag"] == {"root": "r" * LARGE, "turn 0": "x" * LARGE}


def shape(snapshots: list[Any]) -> list[Any]:
    """What must be equal whichever saver: no ids, no times."""
    ids = [s.config["configurable"]["checkpoint_id"] for s in snapshots]

    def at(config: Any) -> int | None:
        return ids.index(config["configurable"]["checkpoint_id"]) if config else None

    return [
        (
            s.values,
            s.next,
            {k: v for k, v in s.metadata.items() if k in ("source", "step", "parents", "writes")},
            at(s.parent_config),
            [(t.name, t.error, [i.value for i in t.interrupts]) for t in s.tasks],
        )
        for s in snapshots
    ]


@pytest.mark.parametrize("back", range(5))
@pytest.mark.parametrize("how", ["replay", "update", "input", "update as node"])
async def test_time_travel_is_langgraphs_own(saver: TransactionalSaver, back: int, how: str) -> None:
    """Going back to any checkpoint, in each way LangGraph offers, leaves the same history behind."""

    async def one(state: Any) -> Any:
        return {"seen": [f"one {state['n']}"], "bag": {"one": "1" * LARGE}}

    async def two(state: Any) -> Any:
        return {"seen": [f"two {state['n']}"], "n": state["n"] + 1}

    async def three(state: Any) -> Any:
        return {"seen": [f"three {state['n']}"], "bag": {"three": "3" * LARGE}}

    results = []
    for checkpointer in (saver, InMemorySaver()):
        graph = chain(checkpointer, one, two, three)
        await graph.ainvoke({"n": 0, "seen": ["first"]}, config_of("t"))
        old = [s async for s in graph.aget_state_history(config_of("t"))][back].config
        if how == "replay":
            result = await graph.ainvoke(None, old)
        elif how == "input":
            result = await graph.ainvoke({"n": 40, "seen": ["again"]}, old)
        else:
            fork = await graph.aupdate_state(old, {"n": 30}, as_node="two" if how == "update as node" else "one")
            result = await graph.ainvoke(None, fork)
        latest = await graph.ainvoke({"n": 50}, config_of("t"))
        history = [s async for s in graph.aget_state_history(config_of("t"))]
        results.append((result, latest, shape(history), [s.values async for s in graph.aget_state_history(old)]))
    assert results[0] == results[1]


async def test_time_travel_reads_todays_facts(saver: TransactionalSaver, bank: Bank) -> None:
    async def one(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    async def two(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    flow = transactional(chain(saver, one, two))
    await flow.ainvoke({"seen": []}, config_of("t"))
    history = [s async for s in flow.aget_state_history(config_of("t"))]
    before_two = next(s for s in history if s.next == ("two",))
    assert before_two.values["seen"] == [100]
    await bank.set(50)
    assert (await flow.ainvoke(None, before_two.config))["seen"] == [100, 50]
    assert await bank.balance() == 49
    assert (await flow.aget_state(config_of("t"))).values["seen"] == [100, 50]


async def test_time_travel_with_a_subgraph_that_reads(saver: TransactionalSaver, bank: Bank) -> None:
    async def inner_one(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    async def inner_two(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    inner = chain(None, inner_one, inner_two)  # type: ignore[arg-type]

    async def outer(state: Any) -> Any:
        return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

    flow = transactional(chain(saver, outer))
    async with asyncio.timeout(30):
        assert (await flow.ainvoke({"seen": []}, config_of("t")))["seen"] == [100, 100]
        before = next(s for s in [s async for s in flow.aget_state_history(config_of("t"))] if s.next == ("outer",))
        assert (await flow.ainvoke(None, before.config))["seen"] == [99, 99]
    assert await bank.balance() == 98


async def test_time_travel_into_a_subgraph_that_waits_for_a_human(saver: TransactionalSaver, bank: Bank) -> None:
    async def ask(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        answer = interrupt({"balance": balance})
        step.stage("UPDATE account SET balance = balance - $1 WHERE id = 1", answer, expect_rows=1)
        return {"seen": [balance, answer]}

    inner = StateGraph(State)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    flow = transactional(outer.compile(checkpointer=saver))
    async with asyncio.timeout(30):
        first = await flow.ainvoke({"seen": []}, config_of("t"))
        assert [i.value for i in first["__interrupt__"]] == [{"balance": 100}]
        waiting = (await flow.aget_state(config_of("t"))).config
        assert (await flow.ainvoke(Command(resume=10), config_of("t")))["seen"] == [100, 10]
        again = await flow.ainvoke(None, waiting)
        assert [i.value for i in again["__interrupt__"]] == [{"balance": 90}]
        assert (await flow.ainvoke(Command(resume=5), config_of("t")))["seen"] == [90, 5]
    assert await bank.balance() == 85


async def test_update_state_between_runs_is_where_the_thread_goes_on(saver: TransactionalSaver, bank: Bank) -> None:
    async def one(state: Any) -> Any:
        return {"seen": [("one", state["n"])]}

    async def two(state: Any) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", f"two {state['n']}")
        return {"seen": [("two", state["n"])]}

    builder = StateGraph(State)
    builder.add_node("one", one)
    builder.add_node("two", two)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    flow = transactional(builder.compile(checkpointer=saver, interrupt_before=["two"]))
    await flow.ainvoke({"n": 1, "seen": []}, config_of("t"))
    assert (await flow.aget_state(config_of("t"))).next == ("two",)
    await flow.aupdate_state(config_of("t"), {"n": 7})
    result = await flow.ainvoke(None, config_of("t"))
    assert [tuple(pair) for pair in result["seen"]] == [("one", 1), ("two", 7)]
    assert [row["line"] for row in await bank.do("SELECT line FROM journal")] == ["two 7"]


# -- serialization -------------------------------------------------------------------------------------------------


@dataclass
class Note:
    text: str


class Card(BaseModel):
    text: str


async def kinds(saver: TransactionalSaver) -> set[str]:
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT kind FROM runtime.checkpoint UNION SELECT kind FROM runtime.channel_value "
            "UNION SELECT kind FROM runtime.task_write UNION SELECT kind FROM runtime.task_effect"
        )
    return {row["kind"] for row in rows}


@pytest.mark.parametrize("value", [Note("hello"), Card(text="hello")])
async def test_types_nobody_allowed_come_back_as_plain_data(saver: TransactionalSaver, value: Any) -> None:
    async def node(state: Any) -> Any:
        return {"bag": {"it": value, "more": [value]}}

    graph = chain(saver, node)
    await graph.ainvoke({"n": 0}, config_of("t"))
    values = (await graph.aget_state(config_of("t"))).values
    assert values["bag"] == {"it": {"text": "hello"}, "more": [{"text": "hello"}]}
    assert "pickle" not in await kinds(saver)


@pytest.mark.parametrize("value", [Note("hello"), Card(text="hello")])
async def test_types_on_the_allow_list_round_trip(database_url: str, value: Any) -> None:
    allowed = [(kind.__module__, kind.__qualname__) for kind in (Note, Card)]
    serde = JsonPlusSerializer(allowed_msgpack_modules=allowed)
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:

        async def node(state: Any) -> Any:
            return {"bag": {"it": value}}

        graph = chain(saver, node)
        await graph.ainvoke({"n": 0}, config_of("t"))
        assert (await graph.aget_state(config_of("t"))).values["bag"] == {"it": value}


@pytest.mark.parametrize("where", ["node", "input"])
@pytest.mark.parametrize("wrap", [False, True])
async def test_what_msgpack_refuses_is_named_and_nothing_is_stored(
    saver: TransactionalSaver, bank: Bank, where: str, *, wrap: bool
) -> None:
    broken = [True]
    bad = {"f": lambda: 1}

    async def node(state: Any) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ('written')")
        return {"bag": bad if broken[0] and where == "node" else {}, "n": 1}

    async def second(state: Any) -> Any:
        return {"n": state["n"] + 1}

    graph = chain(saver, node, second)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ValueNotSerializable, match="msgpack") as caught:
        await flow.ainvoke({"bag": bad if where == "input" else {}}, config_of("t"), durability="sync")
    assert ("'__start__'" if where == "input" else "'bag'") in str(caught.value)
    assert await bank.do("SELECT * FROM journal") == []
    assert await bank.do("SELECT * FROM runtime.task_effect") == []
    assert await bank.do("SELECT * FROM runtime.task_write WHERE task_path NOT LIKE '%__start__%'") == []
    checkpoints = [item async for item in saver.alist(config_of("t"))]
    assert len(checkpoints) == (0 if where == "input" else 2)
    broken[0] = False
    result = await flow.ainvoke({"bag": {}} if where == "input" else None, config_of("t"), durability="sync")
    assert result["n"] == 2
    assert [row["line"] for row in await bank.do("SELECT line FROM journal")] == ["written"]
    assert "pickle" not in await kinds(saver)


async def test_staged_argument_that_msgpack_refuses_fails_the_run_and_not_the_thread(
    saver: TransactionalSaver, bank: Bank
) -> None:
    """Noticed when the task finishes, whether or not its result will be stored apart from the commit."""
    broken = [True]

    async def quick(state: Any) -> Any:
        argument = (lambda: 1) if broken[0] else "written"
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", argument)

    async def slow(state: Any) -> Any:
        return {"n": 1}

    flow = transactional(fan(saver, quick, slow))
    with pytest.raises(ValueNotSerializable, match="'quick'"):
        await flow.ainvoke({"n": 0}, config_of("t"))
    assert await bank.do("SELECT line FROM journal") == []
    broken[0] = False
    await flow.ainvoke(None, config_of("t"))
    assert [row["line"] for row in await bank.do("SELECT line FROM journal")] == ["written"]


async def test_encryption_leaves_no_state_in_the_clear(database_url: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        model = FakeListChatModel(responses=[f"answer {MARKER}"])
        changed: list[bool] = []

        async def node(state: Any) -> Any:
            step = current_step()
            await step.fetch("SELECT balance FROM account WHERE note IS DISTINCT FROM $1 AND id = 1", MARKER)
            said = await model.ainvoke(f"question {MARKER}")
            if not changed:
                changed.append(True)
                await bank.set(99)
            step.stage("UPDATE account SET note = $1 WHERE id = 2", MARKER, expect_rows=1)
            return {"bag": {"said": said.content, "long": MARKER * 100}, "seen": [MARKER]}

        async def ask(state: Any) -> Any:
            step = current_step()
            await step.fetch("SELECT balance FROM account WHERE note IS DISTINCT FROM $1 AND id = 3", MARKER)
            return {"seen": [interrupt({"question": MARKER})]}

        flow = transactional(chain(saver, node, ask))
        first = await flow.ainvoke({"seen": [MARKER], "bag": {"in": MARKER}}, config_of("t"))
        assert [i.value for i in first["__interrupt__"]] == [{"question": MARKER}]
        await _assert_nowhere(saver)
        result = await flow.ainvoke(Command(resume=f"yes {MARKER}"), config_of("t"))
        assert result["seen"] == [MARKER, MARKER, f"yes {MARKER}"]
        assert result["bag"]["said"] == f"answer {MARKER}"
        await _assert_nowhere(saver)
        assert (await bank.do("SELECT note FROM account WHERE id = 2"))[0]["note"] == MARKER
        for table in ("checkpoint", "channel_value", "task_write", "task_effect", "llm_call"):
            assert await bank.do(f"SELECT * FROM runtime.{table}"), f"{table} proves nothing: it is empty"


async def _assert_nowhere(saver: TransactionalSaver) -> None:
    found = []
    for table, binary in (await tables(saver)).items():
        async with saver.transaction() as tx:
            if await tx.fetchval(f"SELECT count(*) FROM runtime.{table} t WHERE t::text LIKE $1", f"%{MARKER}%"):
                found.append(table)
            for column in binary:
                sql = f"SELECT count(*) FROM runtime.{table} WHERE position($1::bytea in {column}) > 0"
                if await tx.fetchval(sql, MARKER.encode()):
                    found.append(f"{table}.{column}")
    assert found == []


# -- deletion ------------------------------------------------------------------------------------------------------


async def rows_of(saver: TransactionalSaver, thread_id: str) -> dict[str, int]:
    counts = {}
    for table in await tables(saver):
        async with saver.transaction() as tx:
            columns = await tx.fetch(
                "SELECT 1 FROM information_schema.columns "
                "WHERE table_schema = 'runtime' AND table_name = $1 AND column_name = 'thread_id'",
                table,
            )
            if columns:
                sql = f"SELECT count(*) FROM runtime.{table} WHERE thread_id = $1"
                counts[table] = await tx.fetchval(sql, thread_id)
    return counts


async def test_delete_thread_leaves_nothing_of_it_and_everything_of_others(
    saver: TransactionalSaver, bank: Bank
) -> None:
    model = FakeListChatModel(responses=["yes"])
    changed: list[bool] = []

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        await model.ainvoke("well?")
        if not changed:
            changed.append(True)
            await bank.set(5)
        step.stage("INSERT INTO journal (line) VALUES ('x')")
        step.stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"bag": {"long": "x" * LARGE}}

    async def ask(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        interrupt("?")

    graph = chain(saver, node, ask)
    for thread_id in ("doomed", "kept"):
        changed.clear()
        await bank.set(100)
        with pytest.raises(StepConflict):
            await graph.ainvoke({"n": 0}, config_of(thread_id))
        await graph.ainvoke(None, config_of(thread_id))
    doomed, kept = await rows_of(saver, "doomed"), await rows_of(saver, "kept")
    assert all(doomed.values()), f"proves nothing where no row is: {doomed}"
    await saver.adelete_thread("doomed")
    assert not any((await rows_of(saver, "doomed")).values())
    assert await rows_of(saver, "kept") == kept
    assert await saver.aget_tuple(config_of("doomed")) is None
    await graph.ainvoke({"n": 0}, config_of("doomed"))
    assert (await graph.aget_state(config_of("doomed"))).next == ("ask",)


# -- the caller's thread -------------------------------------------------------------------------------------------


async def test_sync_methods_work_from_another_thread(saver: TransactionalSaver) -> None:
    def work() -> dict[str, Any]:
        checkpoint = {**empty_checkpoint(), "channel_values": {"x": 1}, "channel_versions": {"x": "1"}}
        stored = saver.put(config_of("t", checkpoint_ns=""), checkpoint, {"source": "update", "step": 0}, {"x": "1"})
        saver.put_writes(stored, [("x", 2)], "task")
        loaded = saver.get_tuple(config_of("t"))
        assert loaded is not None
        saver.copy_thread("t", "copy")
        saver.prune(["copy"], strategy="keep_latest")
        history = saver.get_delta_channel_history(config=stored, channels=["x"])
        listed = [item.checkpoint["id"] for item in saver.list(config_of("copy"), limit=5)]
        saver.delete_for_runs(["nobody"])
        saver.delete_thread("t")
        return {
            "values": loaded.checkpoint["channel_values"],
            "writes": loaded.pending_writes,
            "listed": listed == [checkpoint["id"]],
            "history": dict(history["x"]),
            "gone": saver.get_tuple(config_of("t")) is None,
        }

    assert await asyncio.to_thread(work) == {
        "values": {"x": 1},
        "writes": [("task", "x", 2)],
        "listed": True,
        "history": {"writes": []},
        "gone": True,
    }


CALLS: dict[str, Callable[[TransactionalSaver], Any]] = {
    "get_tuple": lambda saver: saver.get_tuple(config_of("t")),
    "list": lambda saver: list(saver.list(config_of("t"))),
    "put": lambda saver: saver.put(config_of("t", checkpoint_ns=""), empty_checkpoint(), {}, {}),
    "put_writes": lambda saver: saver.put_writes(config_of("t", checkpoint_id="1"), [], "task"),
    "delete_thread": lambda saver: saver.delete_thread("t"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["r"]),
    "copy_thread": lambda saver: saver.copy_thread("t", "u"),
    "prune": lambda saver: saver.prune(["t"]),
    "history": lambda saver: saver.get_delta_channel_history(config=config_of("t"), channels=["x"]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_sync_methods_on_the_loops_own_thread_are_refused(saver: TransactionalSaver, call: str) -> None:
    with pytest.raises(NoActiveStep):
        CALLS[call](saver)


async def test_flow_invoke_and_stream_on_the_loops_own_thread_are_refused(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    flow = transactional(chain(saver, node))
    with pytest.raises(NoActiveStep):
        flow.invoke({"n": 0}, config_of("t"))
    with pytest.raises(NoActiveStep):
        list(flow.stream({"n": 0}, config_of("t")))
    assert await asyncio.to_thread(flow.invoke, {"n": 0}, config_of("t")) == {"n": 1, "seen": []}


async def test_async_methods_work_from_another_loop(saver: TransactionalSaver) -> None:
    """A flow may run on another event loop than the saver's."""

    async def node(state: Any) -> Any:
        return {"n": await current_step().fetchval("SELECT 7")}

    flow = transactional(chain(saver, node))
    result = await asyncio.to_thread(asyncio.run, flow.ainvoke({"n": 0}, config_of("t")))
    assert result["n"] == 7
