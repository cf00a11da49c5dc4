"""A worker that was paused beyond its lease, at each place where that may happen, and wakes up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from langgraph.runtime import RunControl
from langgraph.types import Command

from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import StaleRun
from superstep.runtime.flow.transactional import transactional
from superstep.runtime.settings.settings import RunSettings
from superstep.runtime.workers.graphs import Graphs
from superstep.runtime.workers.perform import perform
from tests.runtime.workers import families, flows
from tests.runtime.workers.conftest import FLOWS, ended, until, working
from tests.support.bank import Bank

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import Claimed, Request, TransactionalSaver


async def taken(late: TransactionalSaver, name: str) -> tuple[Claimed, Request]:
    """The late worker has been given a run, and its lease is over."""
    await late.fleet.submit(f"{FLOWS}:{name}", {"n": 1}, thread="t")
    (run,) = await late.fleet.claim(late.runs.worker.id, [f"{FLOWS}:{name}"], 1, 60.0)
    return run, late.fleet.request(run, late.serde)


async def let_go(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.queued_run SET lease_until = now() - interval '1 second'")


async def go_on(late: TransactionalSaver, run: Claimed, request: Request) -> str:
    async with Graphs(late, RunSettings(), [run.graph]) as graphs, graphs.flow(run.graph, {}, None) as flow:
        return await perform(flow, late, run, request, RunControl(), begun=False)


async def test_one_that_had_not_taken_the_thread_cannot_any_more(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    run, request = await taken(late, "flow")
    await let_go(saver)
    async with working(saver):
        (done,) = await ended(saver)
    with pytest.raises(StaleRun):
        await go_on(late, run, request)
    assert (done.state, done.delivery, flows.did) == ("completed", 2, ["write t"])
    assert await Bank(saver).journal() == ["t 1"]


async def test_one_in_a_node_commits_nothing(saver: TransactionalSaver, late: TransactionalSaver) -> None:
    run, request = await taken(late, "waiting")
    first = asyncio.create_task(go_on(late, run, request))
    await flows.at["here"].wait()
    await let_go(saver)
    flows.at["here"].clear()
    async with working(saver):
        await flows.at["here"].wait()  # the same node, elsewhere: the input was not entered once more
        flows.go["here"].set()
        (done,) = await ended(saver)
    with pytest.raises(StaleRun):
        await first
    assert (done.state, done.delivery, flows.did) == ("completed", 2, ["wait", "wait", "write t"])
    steps = await saver.asteps("t")
    assert [step.nodes for step in steps] == [["wait"], ["write"]]


async def test_one_that_was_about_to_store_the_input_does_not_store_it(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    run, request = await taken(late, "flow")
    claimed, wake = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        failpoints.disarm("run.claimed")
        claimed.set()
        await wake.wait()

    failpoints.arm("run.claimed", pause)
    first = asyncio.create_task(go_on(late, run, request))
    await claimed.wait()
    await let_go(saver)
    async with working(saver):
        (done,) = await ended(saver)
    wake.set()
    with pytest.raises(StaleRun):
        await first
    assert (done.state, flows.did) == ("completed", ["write t"])


async def test_one_that_died_before_it_could_say_that_the_run_has_ended(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    for name, state in (("flow", "completed"), ("asking", "interrupted")):
        await late.fleet.submit(f"{FLOWS}:{name}", {"n": 1}, thread=name)
        (run,) = await late.fleet.claim(late.runs.worker.id, [f"{FLOWS}:{name}"], 1, 60.0)
        assert await go_on(late, run, late.fleet.request(run, late.serde)) == state
    await let_go(saver)
    async with working(saver):
        runs = await ended(saver, 2)
    assert [run.state for run in runs] == ["completed", "interrupted"]
    assert flows.did == ["write flow"]


async def test_a_worker_that_has_lost_a_run_stops_paying_for_it(saver: TransactionalSaver) -> None:
    async with working(saver, lease=0.4) as stop:
        await saver.fleet.submit(f"{FLOWS}:waiting", {"n": 1}, thread="t")
        await flows.at["here"].wait()
        async with saver.transaction() as tx:
            await tx.execute(
                "UPDATE runtime.queued_run SET worker_id = gen_random_uuid(), delivery = 2, "
                "lease_until = now() + interval '1 hour'"
            )
        await until(lambda: not saver.runs.leases.threads())  # nobody has let it go
        stop.set()
    (run,) = await saver.fleet.runs()
    assert (run.state, run.delivery) == ("running", 2)


async def test_an_answer_that_a_dead_worker_has_given_is_not_given_to_the_next_question(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    """It died before it could say how the run has ended: at another question of the same node."""
    flow = transactional(flows.asking_twice.copy(update={"checkpointer": saver}), name=f"{FLOWS}:asking_twice")
    thread: RunnableConfig = {"configurable": {"thread_id": "t"}}
    (first,) = (await flow.ainvoke({"n": 1}, thread))["__interrupt__"]
    await late.fleet.submit(f"{FLOWS}:asking_twice", Command(resume={first.id: "yes"}), thread="t")
    (run,) = await late.fleet.claim(late.runs.worker.id, [f"{FLOWS}:asking_twice"], 1, 60.0)
    assert await go_on(late, run, late.fleet.request(run, late.serde)) == "interrupted"
    await let_go(saver)
    async with working(saver):
        (done,) = await ended(saver)
    (second,) = (await flow.aget_state(thread)).interrupts
    assert (done.state, done.delivery, second.value) == ("interrupted", 2, "second?")
    assert await Bank(saver).journal() == []


async def test_a_run_that_forks_forks_once(saver: TransactionalSaver) -> None:
    """It goes on from what it has committed, and not once more from the checkpoint that it was submitted for."""
    flow = transactional(flows.later_waiting.copy(update={"checkpointer": saver}), name=f"{FLOWS}:later_waiting")
    thread: RunnableConfig = {"configurable": {"thread_id": "t"}}
    flows.go["here"].set()
    await flow.ainvoke({"n": 1}, thread)
    flows.reset()
    (old,) = [each.config async for each in flow.aget_state_history(thread) if each.next == ("write",)]
    await saver.fleet.submit(f"{FLOWS}:later_waiting", None, thread="t", config=dict(old))
    async with working(saver, grace=0.0):
        await flows.at["here"].wait()
    flows.go["here"].set()
    async with working(saver):
        (done,) = await ended(saver)
    assert (done.state, done.delivery) == ("completed", 2)
    assert await Bank(saver).journal() == ["t 1", "t 1"]  # the first run's, and the fork's


async def test_one_that_is_rolled_back_does_not_come_back(saver: TransactionalSaver, late: TransactionalSaver) -> None:
    flow = transactional(flows.waiting.copy(update={"checkpointer": late}), name=f"{FLOWS}:waiting")
    async with working(saver):
        await saver.fleet.submit(f"{FLOWS}:waiting", {"n": 1}, thread="t")
        await flows.at["here"].wait()
        call = asyncio.create_task(
            flow.ainvoke({"n": 2}, {"configurable": {"thread_id": "t"}}, multitask_strategy="rollback")
        )
        (done,) = await ended(saver)
        flows.go["here"].set()
        await call
        await saver.fleet.submit(f"{FLOWS}:flow", {"n": 3}, thread="other")
        await ended(saver, 2)
    assert (done.state, done.delivery) == ("failed", 1)
    assert "Rolled back" in (done.error or "")
    assert await Bank(saver).journal() == ["t 2", "other 3"]


async def test_the_parent_of_one_that_is_rolled_back_is_told(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    families.reset()
    families.meet["graph"] = f"{families.__name__}:holding"
    holding = transactional(families.holding.copy(update={"checkpointer": late}), name=families.meet["graph"])
    async with working(saver):
        await saver.fleet.submit(f"{families.__name__}:parent", {"n": 1}, thread="p")
        await families.meet["here"].wait()
        ((child,),) = families.spawned
        call = asyncio.create_task(
            holding.ainvoke({"n": 2}, {"configurable": {"thread_id": child}}, multitask_strategy="rollback")
        )
        await ended(saver, 3)
        families.meet["go here"].set()
        await call
    parent = transactional(families.parent.copy(update={"checkpointer": saver}))
    ((name, thread, reason),) = (await parent.aget_state({"configurable": {"thread_id": "p"}})).values["seen"]
    assert (name, thread) == ("ChildFailed", child)
    assert reason.startswith("Rolled back")
