"""Interleavings and misuse that once got through, or nearly did."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.saver import sync as bridge
from superstep.checkpointer.threads import registry
from superstep.runtime.faults import NoActiveStep, ReadFailed, StagedWriteFailed, StaleRun
from tests.support.bank import Bank, make_bank
from tests.support.graphs import State, chain, fan
from tests.support.kinds import BALANCE, LOG, journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


async def test_a_commit_that_lands_late_is_not_applied_twice(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The answer to COMMIT is lost, the look-up comes before the server is done, and only then the COMMIT lands."""
    late: list[asyncio.Task[None]] = []

    async def land(conn: Any) -> None:
        async with asyncio.timeout(20):
            while not await bank.do("SELECT 1 FROM pg_locks WHERE NOT granted"):
                pass  # until our own repetition waits for it
        await conn.execute("COMMIT")
        await saver.database.connections.give_back(conn)

    async def lose() -> None:
        (run,) = saver.runs._runs.values()
        if run.steps:
            failpoints.disarm("commit.before_commit")
            (step,) = run.steps.values()
            conn = step.snapshot._leave()
            late.append(asyncio.create_task(land(conn)))
            raise asyncpg.ConnectionDoesNotExistError

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "once")
        return {"n": 1}

    failpoints.arm("commit.before_commit", lose)
    assert (await chain(saver, node).ainvoke({"n": 0}, thread, durability="sync"))["n"] == 1
    await late[0]
    assert await journal(bank) == ["once"]


async def test_new_input_instead_of_an_answer_drops_what_the_abandoned_tasks_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def writes(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, f"run {state['n']}")
        return {"seen": ["writes"]}

    async def asks(state: Any) -> Any:
        return {"seen": [interrupt("?") if state["n"] == 1 else "asks"]}

    flow = transactional(fan(saver, writes, asks))
    await flow.ainvoke({"n": 1, "seen": []}, thread)
    await bank.set(5)  # nor do the abandoned facts matter any more
    assert (await flow.ainvoke({"n": 2}, thread))["seen"] == ["asks", "writes"]
    assert await journal(bank) == ["run 2"]


@pytest.mark.parametrize("stateful", [None, True])
async def test_leaving_a_subgraph_for_its_parent_keeps_what_was_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, stateful: bool | None
) -> None:
    async def inner(state: Any) -> Any:
        current_step().stage(LOG, "inner")
        return Command(graph=Command.PARENT, goto=END, update={"seen": ["inner"]})

    sub = StateGraph(State).add_node(inner).add_edge(START, "inner").compile(checkpointer=stateful)
    graph = StateGraph(State).add_node("sub", sub, destinations=(END,)).add_edge(START, "sub")
    result = await transactional(graph.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["inner"]
    assert await journal(bank) == ["inner"]


@pytest.mark.parametrize("stateful", [None, True])
async def test_a_drifted_caller_runs_its_subgraph_again_on_the_new_facts(
    database_url: str, thread: RunnableConfig, stateful: bool | None
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        seen: list[int] = []

        async def plan(state: Any) -> Any:
            return {"seen": [f"plan for {state['n']}"]}

        sub = StateGraph(State).add_node(plan).add_edge(START, "plan").compile(checkpointer=stateful)

        async def caller(state: Any) -> Any:
            balance = await current_step().fetchval(BALANCE, 1)
            seen.append(balance)
            planned = await sub.ainvoke({"n": balance, "seen": []})
            if len(seen) == 1:
                await bank.set(7)
            return {"seen": [balance, planned["seen"][-1]]}

        result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
        assert result["seen"] == [7, "plan for 7"]


async def test_a_stage_is_one_statement(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        step.stage("INSERT INTO journal (line) VALUES ('leak'); COMMIT; BEGIN")
        step.stage("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StagedWriteFailed) as caught:
        await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert caught.value.sqlstate == "42601"
    assert await journal(bank) == []


async def test_arguments_are_what_they_were_when_given(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        step, argument = current_step(), ["a"]
        await step.fetch("SELECT * FROM account WHERE note = ANY($1::text[])", argument)
        for line in ("one", "two"):
            argument[:] = [line]
            step.stage("INSERT INTO journal (line) SELECT unnest($1::text[])", argument)

    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert await journal(bank) == ["one", "two"]


async def test_the_head_counts_not_the_greatest_id(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is ahead makes ids that later workers cannot exceed."""
    from langgraph.pregel import _checkpoint

    real = _checkpoint.uuid6

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        return {"seen": ["x"]}

    graph = chain(saver, node)
    monkeypatch.setattr(_checkpoint, "uuid6", lambda **kw: "f" + str(real(**kw))[1:])
    await graph.ainvoke({"seen": ["first"]}, thread)
    monkeypatch.undo()
    for expected in (["first", "x", "second", "x"], ["first", "x", "second", "x", "third", "x"]):
        assert (await graph.ainvoke({"seen": [expected[-2]]}, thread))["seen"] == expected
    assert (await graph.aget_state(thread)).values["seen"][-2:] == ["third", "x"]
    assert len(await journal(bank)) == 3


def test_a_checkpoint_does_not_overtake_the_results_it_rests_on(
    sync_saver: TransactionalSaver, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synchronous graphs hand both in from a pool of threads; here the result comes second for certain."""
    put_called = threading.Event()
    put, put_writes = bridge.SyncBridge.put, bridge.SyncBridge.put_writes

    def slow_put_writes(self: Any, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if "node" in task_path:
            assert put_called.wait(20)
        put_writes(self, config, writes, task_id, task_path)

    def noted_put(self: Any, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] == 1:
            put_called.set()
        return put(self, config, checkpoint, metadata, new_versions)

    monkeypatch.setattr(bridge.SyncBridge, "put_writes", slow_put_writes)
    monkeypatch.setattr(bridge.SyncBridge, "put", noted_put)

    def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        return {"n": 1}

    assert chain(sync_saver, node).invoke({"n": 0}, thread)["n"] == 1
    assert sync_saver.database.home.block(journal(Bank(sync_saver))) == ["x"]


async def test_runs_that_never_ended_do_not_fill_the_books(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MOST_RUNS", 3)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"seen": [interrupt("?")]}

    graph = chain(saver, node)
    threads = [new_thread() for _ in range(8)]
    for thread in threads:
        await graph.ainvoke({"seen": []}, thread)
    assert (await graph.ainvoke(Command(resume="yes"), threads[0]))["seen"] == ["yes"]


async def test_a_pool_with_a_json_codec_of_its_own(database_url: str, thread: RunnableConfig) -> None:
    async def init(conn: Any) -> None:
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async with asyncpg.create_pool(database_url, init=init, min_size=1, max_size=4) as pool:
        saver = TransactionalSaver(pool)

        async def node(state: Any) -> Any:
            return {"n": 1}

        graph = chain(saver, node)
        await graph.ainvoke({"n": 0}, thread)
        assert len([state async for state in graph.aget_state_history(thread)]) == 3
        assert [step.nodes for step in await saver.asteps(thread["configurable"]["thread_id"])] == [["node"]]
        assert len([t async for t in saver.alist(thread, filter={"source": "loop"})]) == 2
        await saver.aclose()


async def test_idle_steps_yield_to_us_when_others_took_the_rest_of_a_shared_pool(
    database_url: str, new_thread: Callable[[], RunnableConfig]
) -> None:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=2) as pool:
        saver = TransactionalSaver(pool, hold_idle="forever")
        await make_bank(saver)
        both = asyncio.Barrier(2)

        async def node(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 1)
            await both.wait()
            return {"n": 1}

        async with pool.acquire(), asyncio.timeout(20):
            graph = chain(saver, node)
            await asyncio.gather(*(graph.ainvoke({"n": 0}, new_thread()) for _ in range(2)))
        await saver.aclose()


async def test_a_step_that_is_over_says_so(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    kept: list[Any] = []

    async def node(state: Any) -> Any:
        kept.append(current_step())
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)
    with pytest.raises(NoActiveStep):
        kept[0].stage(LOG, "late")
    with pytest.raises(NoActiveStep):
        await kept[0].fetchval(BALANCE, 1)
    assert saver.database.connections.lent == 0


async def test_an_error_that_no_database_can_store_is_still_the_error(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        raise ValueError("a\x00b \ud800")

    flow = transactional(chain(saver, node))
    with pytest.raises(ValueError, match="a\x00b"):
        await flow.ainvoke({"n": 0}, thread)
    report = await flow.areport(thread)
    assert (report.status, report.error) == ("failed", {"type": "ValueError", "message": "ab ?"})


async def test_a_fencing_token_is_never_used_twice(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """A thread is deleted and made anew while an old worker of it sleeps."""
    sleeping, wake = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def node(state: Any) -> Any:
        runs.append("x")
        if len(runs) == 1:
            sleeping.set()
            await wake.wait()
        current_step().stage(LOG, "x")
        return {"n": len(runs)}

    graph = chain(saver, node)
    old = asyncio.create_task(graph.ainvoke({"n": 0}, thread))
    await sleeping.wait()
    await saver.adelete_thread(thread["configurable"]["thread_id"])
    assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
    wake.set()
    with pytest.raises(StaleRun):
        await old
    assert await journal(bank) == ["x"]


async def test_no_argument_is_quoted_in_an_error(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(ReadFailed) as caught:
            await current_step().fetch("SELECT $1::text::integer", "hunter2")
        assert "hunter2" not in str(caught.value)
        current_step().stage("INSERT INTO account (id) VALUES ($1::text::integer)", "hunter2")

    flow = transactional(chain(saver, node))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({"n": 0}, thread)
    report = await flow.areport(thread)
    assert "hunter2" not in str(caught.value) + json.dumps(report.to_dict())
