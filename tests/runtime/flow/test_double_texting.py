"""A call whose thread is being run: refused, in line, after the run that it ends, or in the place of its input."""

from __future__ import annotations

import asyncio
import operator
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import ConfigError, RollbackRefused, StaleRun, ThreadBusy
from superstep.runtime.flow.retry import Settings
from tests.support.bank import BALANCE, LOG
from tests.support.internals import pinned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


class State(TypedDict, total=False):
    by: str
    seen: Annotated[list[str], operator.add]


class Gate:
    """Where runs of these names wait in their first node until they may go on."""

    def __init__(self, *names: str) -> None:
        self.at_work = {name: asyncio.Event() for name in names}
        self.may_go_on = {name: asyncio.Event() for name in names}
        self.ran: list[str] = []

    async def first(self, state: Any) -> Any:
        name = state["by"]
        self.ran.append(f"{name} 1")
        if name in self.at_work:
            self.at_work[name].set()
            await self.may_go_on[name].wait()
        return {"seen": [f"{name} 1"]}

    async def second(self, state: Any) -> Any:
        self.ran.append(f"{state['by']} 2")
        return {"seen": [f"{state['by']} 2"]}

    def flow(self, saver: TransactionalSaver, first: Any = None, **settings: Any) -> Any:
        builder = StateGraph(State).add_node("first", first or self.first).add_node("second", self.second)
        builder.add_edge(START, "first").add_edge("first", "second").add_edge("second", END)
        return transactional(builder.compile(checkpointer=saver), settings=Settings(**settings))


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """Another process, as far as the database can tell."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


@pytest.fixture(params=["here", "elsewhere"])
def other(request: pytest.FixtureRequest, saver: TransactionalSaver, elsewhere: TransactionalSaver) -> Any:
    """Where the second call is made."""
    return saver if request.param == "here" else elsewhere


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(120):
        yield


def begin(flow: Any, name: str, thread: RunnableConfig, **how: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(flow.ainvoke({"by": name}, thread, **how), context=Context())


async def in_line(bank: Bank, many: int) -> None:
    """Wait until so many calls stand in the line."""
    async with asyncio.timeout(60):
        while sum(len(row["queue"]) for row in await bank.do("SELECT queue FROM runtime.turn")) != many:
            pass


async def seen(saver: TransactionalSaver, thread: RunnableConfig) -> list[str]:
    return list((await Gate().flow(saver).aget_state(thread)).values.get("seen", ()))


async def test_reject(saver: TransactionalSaver, bank: Bank, other: Any, thread: RunnableConfig) -> None:
    gate = Gate("a")
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    with pytest.raises(ThreadBusy):
        await begin(gate.flow(other), "b", thread, multitask_strategy="reject")
    gate.may_go_on["a"].set()
    assert (await run)["seen"] == ["a 1", "a 2"]


@pytest.mark.parametrize("first", [None, "enqueue"])
async def test_calls_in_line_come_one_after_the_other_in_their_order(
    saver: TransactionalSaver, elsewhere: TransactionalSaver, bank: Bank, thread: RunnableConfig, first: Any
) -> None:
    """In this process and another, whether the run before them stood in line or not."""
    gate = Gate("a")
    here, there = gate.flow(saver, multitask_strategy="enqueue"), gate.flow(elsewhere, multitask_strategy="enqueue")
    runs = [begin(gate.flow(saver), "a", thread, multitask_strategy=first)]
    await gate.at_work["a"].wait()
    for at, (name, flow) in enumerate([("b", there), ("c", here), ("d", there), ("e", there)], 1):
        runs.append(begin(flow, name, thread))
        await in_line(bank, at)
    assert gate.ran == ["a 1"]
    assert pinned(saver) <= 1, "nobody holds a connection, but one who is asking"
    gate.may_go_on["a"].set()
    ended = await asyncio.gather(*runs)
    assert [each["seen"][-1] for each in ended] == ["a 2", "b 2", "c 2", "d 2", "e 2"]
    assert gate.ran == [f"{name} {n}" for name in "abcde" for n in (1, 2)]
    await in_line(bank, 0)


async def test_who_is_cancelled_while_it_waits_leaves_the_line(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    gate = Gate("a")
    flow = gate.flow(saver, multitask_strategy="enqueue")
    runs = [begin(flow, "a", thread)]
    await gate.at_work["a"].wait()
    for at, name in enumerate("bc", 1):
        runs.append(begin(flow, name, thread))
        await in_line(bank, at)
    runs[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await runs[1]
    await in_line(bank, 1)
    gate.may_go_on["a"].set()
    assert (await runs[0])["seen"] == ["a 1", "a 2"]
    assert (await runs[2])["seen"] == ["a 1", "a 2", "c 1", "c 2"]


async def test_one_that_was_faster_without_standing_in_line_is_waited_for(
    saver: TransactionalSaver,
    elsewhere: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate("a", "x")
    runs = [begin(gate.flow(saver), "a", thread)]
    await gate.at_work["a"].wait()
    arunner = elsewhere.arunner

    async def meanwhile(thread_id: str) -> Any:
        found = await arunner(thread_id)
        if found is None and "x 1" not in gate.ran:
            await runs[0]  # its end is recorded a moment before its process lets go of the thread
            runs.append(begin(gate.flow(saver), "x", thread))
            await gate.at_work["x"].wait()
        return found

    monkeypatch.setattr(elsewhere, "arunner", meanwhile)
    waits = begin(gate.flow(elsewhere), "b", thread, multitask_strategy="enqueue")
    await in_line(bank, 1)
    gate.may_go_on["a"].set()
    await gate.at_work["x"].wait()
    await runs[0]
    gate.may_go_on["x"].set()
    await runs[1]
    assert (await waits)["seen"] == [f"{name} {n}" for name in "axb" for n in (1, 2)]


async def test_a_stream_that_is_being_read_is_waited_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    gate = Gate()
    flow = gate.flow(saver, multitask_strategy="enqueue")
    chunks = []
    async for chunk in gate.flow(saver).astream({"by": "a"}, thread, stream_mode="updates"):
        if not chunks:
            waits = begin(flow, "b", thread)
            await in_line(bank, 1)
            await asyncio.sleep(0)
        chunks.append(chunk)
    assert [list(each) for each in chunks] == [["first"], ["second"]]
    assert (await waits)["seen"] == ["a 1", "a 2", "b 1", "b 2"]


def test_in_line_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    at_work, may_go_on = threading.Event(), threading.Event()

    def first(state: Any) -> Any:
        if state["by"] == "a":
            at_work.set()
            may_go_on.wait(60)
        return {"seen": [f"{state['by']} 1"]}

    builder = StateGraph(State).add_node("first", first).add_edge(START, "first")
    flow = transactional(builder.compile(checkpointer=sync_saver), settings=Settings(multitask_strategy="enqueue"))
    ended: list[Any] = []
    runs = [threading.Thread(target=lambda name=name: ended.append(flow.invoke({"by": name}, thread))) for name in "ab"]
    runs[0].start()
    at_work.wait(60)
    runs[1].start()
    may_go_on.set()
    for run in runs:
        run.join(60)
    assert [each["seen"] for each in ended] == [["a 1"], ["a 1", "b 1"]]


async def test_an_answer_that_names_no_question_does_not_wait(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """When the thread is free, it may wait for the answer to another question."""
    at_work, may_go_on = asyncio.Event(), asyncio.Event()

    async def first(state: Any) -> Any:
        if state["by"] == "a":
            at_work.set()
            await may_go_on.wait()
        return {"seen": [interrupt(f"{state['by']}?")]}

    flow = Gate().flow(saver, first, multitask_strategy="enqueue")
    run = begin(flow, "a", thread)
    await at_work.wait()
    with pytest.raises(ThreadBusy):
        await asyncio.create_task(flow.ainvoke(Command(resume="yes"), thread), context=Context())
    may_go_on.set()
    assert [each.value for each in (await run)["__interrupt__"]] == ["a?"]


# -- interrupt ---------------------------------------------------------------------------------------------------------


async def test_an_interrupted_run_ends_after_its_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    gate = Gate("a")
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    later = begin(gate.flow(saver), "b", thread, multitask_strategy="interrupt")
    holder = saver.runs.leases.holder(thread["configurable"]["thread_id"])
    assert holder is not None
    while True:
        if holder.stopping:
            break
        await asyncio.sleep(0)
    gate.may_go_on["a"].set()
    with pytest.raises(StaleRun, match="was interrupted by a later call, after a super-step"):
        await run
    assert (await later)["seen"] == ["a 1", "b 1", "b 2"]
    assert gate.ran == ["a 1", "b 1", "b 2"]


async def test_one_that_does_not_get_to_an_end_is_cut_off(
    saver: TransactionalSaver, bank: Bank, other: Any, thread: RunnableConfig
) -> None:
    """At once if it is another process's. What it had committed stays."""
    await Gate().flow(saver).ainvoke({"by": "z"}, thread)
    gate = Gate("a")
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    flow = gate.flow(other, multitask_strategy="interrupt", interrupt_grace=0.0)
    assert (await begin(flow, "b", thread))["seen"] == ["z 1", "z 2", "b 1", "b 2"]
    gate.may_go_on["a"].set()
    with pytest.raises(StaleRun):
        await run
    assert await seen(saver, thread) == ["z 1", "z 2", "b 1", "b 2"]
    assert pinned(saver) == 0


async def test_of_several_that_interrupt_the_last_one_is_left(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    gate = Gate("a", "b", "c")
    flow = gate.flow(saver, multitask_strategy="interrupt", interrupt_grace=0.0)
    runs = []
    for name in "abc":
        runs.append(begin(flow, name, thread))
        await gate.at_work[name].wait()
    for name in "abc":
        gate.may_go_on[name].set()
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(each) for each in ended[:2]] == [StaleRun, StaleRun]
    assert ended[2]["seen"] == ["c 1", "c 2"]


# -- rollback ----------------------------------------------------------------------------------------------------------


async def history(saver: TransactionalSaver, thread: RunnableConfig) -> list[str]:
    return [
        each.config["configurable"]["checkpoint_id"] async for each in Gate().flow(saver).aget_state_history(thread)
    ]


@pytest.mark.parametrize("before", [False, True])
async def test_what_an_input_has_done_is_taken_back(
    saver: TransactionalSaver, bank: Bank, other: Any, thread: RunnableConfig, *, before: bool
) -> None:
    gate = Gate("a")
    gate.first, gate.second = gate.second, gate.first  # type: ignore[method-assign]  # the second node waits
    if before:
        await gate.flow(saver).ainvoke({"by": "z"}, thread)
    kept = await history(saver, thread)
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    while not any("a 2" in each for each in [await seen(saver, thread)]):
        pass  # the first super-step is being committed
    result = await begin(gate.flow(other), "b", thread, multitask_strategy="rollback")
    z = ["z 2", "z 1"] if before else []
    assert result["seen"] == [*z, "b 2", "b 1"]
    gate.may_go_on["a"].set()
    with pytest.raises(StaleRun):
        await run
    assert await seen(saver, thread) == [*z, "b 2", "b 1"]
    assert (await history(saver, thread))[-len(kept) :] == kept or not before
    rows = await bank.do(
        "SELECT metadata ->> 'source' AS source FROM runtime.checkpoint WHERE metadata ->> 'source' = 'input'"
    )
    assert len(rows) == 1 + before, "of the abandoned input nothing is left"
    assert not await bank.do("SELECT FROM runtime.channel_value WHERE convert_from(value, 'LATIN1') LIKE '%a 2%'")


async def test_a_turn_that_had_ended_is_not_taken_back_with_an_input_that_is_not_stored_yet(
    saver: TransactionalSaver, bank: Bank, elsewhere: TransactionalSaver, thread: RunnableConfig
) -> None:
    gate = Gate()
    await gate.flow(saver).ainvoke({"by": "z"}, thread)
    claimed, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        failpoints.disarm("run.claimed")
        claimed.set()
        await may_go_on.wait()

    failpoints.arm("run.claimed", hold)
    run = begin(gate.flow(saver), "a", thread)
    await claimed.wait()
    result = await begin(gate.flow(elsewhere), "b", thread, multitask_strategy="rollback")
    assert result["seen"] == ["z 1", "z 2", "b 1", "b 2"]
    may_go_on.set()
    with pytest.raises(StaleRun):
        await run
    assert await seen(saver, thread) == ["z 1", "z 2", "b 1", "b 2"]


@pytest.mark.parametrize("nested", [False, True])
async def test_a_rollback_is_refused_where_domain_writes_were_committed(
    saver: TransactionalSaver, bank: Bank, other: Any, thread: RunnableConfig, *, nested: bool
) -> None:
    gate = Gate("a")

    async def writes(state: Any) -> Any:
        current_step().stage(LOG, state["by"])
        return {}

    builder = StateGraph(State).add_node("writes", writes).add_node("slow", gate.first)
    builder.add_edge(START, "writes").add_edge("writes", "slow")
    graph = builder.compile(checkpointer=None if nested else saver)
    if nested:
        graph = StateGraph(State).add_node("inner", graph).add_edge(START, "inner").compile(checkpointer=saver)
    run = begin(transactional(graph), "a", thread)
    await gate.at_work["a"].wait()
    while not await bank.journal():
        pass  # the next super-step begins while this one is being committed
    with pytest.raises(RollbackRefused, match="committed 1 domain write since"):
        await begin(transactional(graph.copy({"checkpointer": other})), "b", thread, multitask_strategy="rollback")
    gate.may_go_on["a"].set()
    assert (await run)["seen"] == ["a 1"], "it has gone on"
    assert await bank.journal() == ["a"]


async def test_a_write_that_is_committed_meanwhile_is_seen(
    saver: TransactionalSaver, bank: Bank, elsewhere: TransactionalSaver, thread: RunnableConfig
) -> None:
    """The run's commit has the thread's row when the rollback comes for it."""
    gate = Gate()

    begun, may_commit = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        failpoints.disarm("commit.before_commit")
        begun.set()
        await may_commit.wait()

    async def writes(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)  # what the step starts from is committed then
        failpoints.arm("commit.before_commit", hold)
        current_step().stage(LOG, state["by"])
        return {"seen": ["wrote"]}

    run = begin(gate.flow(saver, writes), "a", thread)
    await begun.wait()
    rollback = begin(gate.flow(elsewhere), "b", thread, multitask_strategy="rollback")
    await bank.lock_waited_for(unless=rollback)
    may_commit.set()
    with pytest.raises(RollbackRefused):
        await rollback
    assert (await run)["seen"] == ["wrote", "a 2"]
    assert await bank.journal() == ["a"]


async def test_a_run_that_ends_meanwhile_stays(
    saver: TransactionalSaver,
    bank: Bank,
    elsewhere: TransactionalSaver,
    thread: RunnableConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate("a")
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    arunner = elsewhere.arunner

    async def then_it_ends(thread_id: str) -> Any:
        found = await arunner(thread_id)
        gate.may_go_on["a"].set()
        await run
        return found

    monkeypatch.setattr(elsewhere, "arunner", then_it_ends)
    result = await begin(gate.flow(elsewhere), "b", thread, multitask_strategy="rollback")
    assert result["seen"] == ["a 1", "a 2", "b 1", "b 2"]


async def test_input_of_delta_channels_goes_too(
    saver: TransactionalSaver, bank: Bank, elsewhere: TransactionalSaver, thread: RunnableConfig
) -> None:
    """LangGraph keeps it with the checkpoint before."""

    class Delta(TypedDict, total=False):
        by: str
        log: Annotated[list[str], DeltaChannel(lambda state, writes: [*state, *(x for w in writes for x in w)])]

    gate = Gate("a")

    async def node(state: Any) -> Any:
        await gate.first(state)
        return {}

    builder = StateGraph(Delta).add_node("node", node).add_edge(START, "node")
    here, there = (transactional(builder.compile(checkpointer=each)) for each in (saver, elsewhere))
    await here.ainvoke({"by": "z", "log": ["z"]}, thread)
    run = asyncio.create_task(here.ainvoke({"by": "a", "log": ["a", "a"]}, thread), context=Context())
    await gate.at_work["a"].wait()
    result = await there.ainvoke({"by": "b"}, thread, multitask_strategy="rollback")
    assert result["log"] == ["z"]
    assert (await there.aget_state(thread)).values["log"] == ["z"]
    gate.may_go_on["a"].set()
    with pytest.raises(StaleRun):
        await run


async def test_a_rollback_needs_an_input_to_put_in_the_place(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    gate = Gate("a")
    run = begin(gate.flow(saver), "a", thread)
    await gate.at_work["a"].wait()
    flow = gate.flow(saver, multitask_strategy="rollback")
    with pytest.raises(ConfigError, match="brings no new input"):
        await asyncio.create_task(flow.ainvoke(None, thread), context=Context())
    gate.may_go_on["a"].set()
    assert (await run)["seen"] == ["a 1", "a 2"]


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
async def test_on_a_thread_that_nobody_runs_they_are_all_the_same(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, strategy: str
) -> None:
    flow = Gate().flow(saver, multitask_strategy=strategy)
    await flow.ainvoke({"by": "a"}, thread)
    assert (await flow.ainvoke({"by": "b"}, thread))["seen"] == ["a 1", "a 2", "b 1", "b 2"]
    await in_line(bank, 0)


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match='"reject", "enqueue", "interrupt", "rollback"'):
        Settings(multitask_strategy="ignore")
