"""Threads that wait, or that others wait for, when something else becomes of them than what is waited for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep.checkpointer import asend
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import StaleRun
from superstep.runtime.flow.transactional import transactional
from tests.runtime.workers import families
from tests.runtime.workers.conftest import ended, until, working
from tests.runtime.workers.test_children import FAMILIES, completed, seen
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer import TransactionalSaver

PARENT: Any = {"configurable": {"thread_id": "p"}}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    families.reset()
    yield
    failpoints.disarm("commit.staged")


def flow_of(saver: TransactionalSaver, name: str, **how: Any) -> Any:
    graph = getattr(families, name)
    return transactional(graph.copy(update={"checkpointer": saver}), name=f"{FAMILIES}:{name}", **how)


async def parked(saver: TransactionalSaver, child: str) -> Any:
    """A parent, and where its child is, which asks a human."""
    families.meet["graph"] = f"{FAMILIES}:{child}"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await ended(saver, 2)
    return {"configurable": {"thread_id": families.spawned[-1][0]}}


async def test_a_plain_graph_that_waits_before_the_spawning_is_committed(saver: TransactionalSaver) -> None:
    """LangGraph starts the next super-step while the checkpoint before it is still being saved."""

    async def hold() -> None:
        failpoints.disarm("commit.staged")
        await until(lambda: "gather" in families.did)
        await asyncio.sleep(0.1)  # it has come to wait by then, or has failed

    failpoints.arm("commit.staged", hold)
    plain = families.parent.copy(update={"checkpointer": saver})
    assert "__interrupt__" in await plain.ainvoke({"n": 1}, PARENT, durability="async")


@pytest.mark.parametrize("by", ["worker", "program"])
async def test_an_answered_child_that_is_rolled_back_is_not_entered_again(
    saver: TransactionalSaver, late: TransactionalSaver, by: str
) -> None:
    """What is rolled back is its input: the run that carries the answer has none of its own."""
    child = await parked(saver, "answered")
    answering: asyncio.Task[Any] | None = None
    async with working(saver):
        if by == "worker":
            async with saver.transaction() as tx:
                await asend(tx, child["configurable"]["thread_id"], "yes")
        else:
            answering = asyncio.create_task(flow_of(saver, "answered").ainvoke(Command(resume="yes"), child))
        await families.meet["here"].wait()
        other = flow_of(late, "answered")
        assert "__interrupt__" in await other.ainvoke({"n": 2}, child, multitask_strategy="rollback")
        families.meet["go here"].set()
        assert (await other.ainvoke(Command(resume="no"), child))["seen"] == ["no", "did 2"]
        await completed(saver, "p")
        runs = await saver.fleet.runs(thread=child["configurable"]["thread_id"])
        if answering is not None:
            await asyncio.gather(answering, return_exceptions=True)
    ((name, _, reason),) = await seen(saver, "p")
    assert (name, reason.split(":")[0]) == ("ChildFailed", "Rolled back")
    assert {run.delivery for run in runs} == {1}
    assert (await other.aget_state(child)).values["seen"] == ["no", "did 2"]


@pytest.mark.parametrize("fails", [False, True])
async def test_other_input_on_the_thread_of_a_child_that_asks_is_not_what_the_child_has_come_to(
    saver: TransactionalSaver, fails: bool
) -> None:
    families.meet["thread"] = "kid"
    await parked(saver, "asking")
    flow = flow_of(saver, "asking")
    kid: Any = {"configurable": {"thread_id": "kid"}}
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="q")
        await ended(saver, 4)
        if fails:
            broken = transactional(chain(saver, families.fail), name=f"{FAMILIES}:asking")
            with pytest.raises(ValueError, match="no such account"):
                await broken.ainvoke({"n": 3}, kid)
        else:
            async with saver.transaction() as tx:
                await asend(tx, "kid", "for the second")
            await completed(saver, "q")
            assert await seen(saver, "q") == [["for the second"]]
        await completed(saver, "p")
    ((name, _, reason),) = await seen(saver, "p")
    assert (name, "other input" in reason) == ("ChildFailed", True)
    assert fails or (await flow.aget_state(kid)).values["seen"] == ["for the second"]


async def test_a_child_that_asks_and_is_given_up_has_failed(saver: TransactionalSaver) -> None:
    child = await parked(saver, "asking")
    assert await saver.acancel(child["configurable"]["thread_id"])
    async with working(saver):
        await completed(saver, "p")
    ((name, _, reason),) = await seen(saver, "p")
    assert (name, "given up" in reason) == ("ChildFailed", True)


async def test_a_child_whose_history_is_deleted_before_its_end_is_recorded(saver: TransactionalSaver) -> None:
    child = await parked(saver, "asking")
    await flow_of(saver, "asking").ainvoke(Command(resume="yes"), child)
    await saver.aprune([child["configurable"]["thread_id"]], strategy="keep_latest")
    async with working(saver):
        await completed(saver, "p")
    assert (await seen(saver, "p"), families.did.count("ask")) == ([["yes"]], 2)


async def test_a_parent_that_is_lifted_when_it_is_woken_goes_on(saver: TransactionalSaver) -> None:
    before = transactional(chain(saver, families.spawn, families.gather), name=f"{FAMILIES}:lifted", version="1")
    assert "__interrupt__" in await before.ainvoke({"n": 1}, PARENT)
    async with working(saver):
        await completed(saver, "p")
        _, woken = await ended(saver, 2)
    assert await seen(saver, "p", "lifted") == ["lifted", ["did 7"]]
    assert (woken.state, woken.failures) == ("completed", 0)


async def test_a_parent_that_is_lifted_by_somebody_who_does_not_run_it_goes_on(saver: TransactionalSaver) -> None:
    before = transactional(chain(saver, families.spawn, families.gather), name=f"{FAMILIES}:lifted", version="1")
    assert "__interrupt__" in await before.ainvoke({"n": 1}, PARENT)
    now = families.lifted.copy(update={"checkpointer": saver})

    claims = 0

    async def die_when_it_is_lifted() -> None:
        nonlocal claims
        claims += 1
        raise asyncio.CancelledError

    failpoints.arm("run.claimed", die_when_it_is_lifted)
    with pytest.raises(asyncio.CancelledError):
        await now.ainvoke(None, PARENT)
    failpoints.disarm("run.claimed")
    async with working(saver):
        await completed(saver, "p")
    assert (claims, await seen(saver, "p", "lifted")) == (1, ["lifted", ["did 7"]])


async def test_a_thread_that_is_lifted_by_an_answer_asks_again(saver: TransactionalSaver) -> None:
    before = transactional(chain(saver, families.ask), name=f"{FAMILIES}:lifted_too", version="1")
    await before.ainvoke({"n": 1}, PARENT)
    async with working(saver):
        for answer in ("to the old question", "to the new one"):
            async with saver.transaction() as tx:
                await asend(tx, "p", answer)
            await ended(saver, 1 if answer.endswith("question") else 2)
    assert await seen(saver, "p", "lifted_too") == ["lifted", "to the new one"]


async def test_an_answer_goes_on_with_what_the_thread_was_run_with_and_not_with_what_waits(
    saver: TransactionalSaver,
) -> None:
    async with working(saver):
        graph, hour = f"{FAMILIES}:asking", timedelta(hours=1)
        await saver.fleet.submit(graph, {"n": 1}, thread="t", config={"metadata": {"who": "first"}})
        await ended(saver)
        await saver.fleet.submit(graph, {"n": 2}, thread="t", config={"metadata": {"who": "second"}}, delay=hour)
        async with saver.transaction() as tx:
            await asend(tx, "t", "yes")
        await completed(saver, "t")
    state = await flow_of(saver, "asking").aget_state({"configurable": {"thread_id": "t"}})
    assert state.metadata["who"] == "first"


@pytest.mark.parametrize("both", [False, True])
async def test_a_child_that_another_thread_waits_for_outlives_its_parent(saver: TransactionalSaver, both: bool) -> None:
    families.meet["graph"] = f"{FAMILIES}:asking"
    child = await parked(saver, "asking")
    thread = child["configurable"]["thread_id"]
    other: Any = {"configurable": {"thread_id": "other"}}
    waits = transactional(chain(saver, families.gather), name=f"{FAMILIES}:gathering")
    assert "__interrupt__" in await waits.ainvoke({"bag": {"children": [thread]}}, other)
    if both:
        await saver.aprune(["p", thread], strategy="delete")
    else:
        await saver.adelete_thread("p")
        async with saver.transaction() as tx:
            await asend(tx, thread, "yes")
    async with working(saver):
        await completed(saver, "other")
    (found,) = await seen(saver, "other")
    assert found == ["ChildFailed", thread, "its thread was deleted"] if both else found == ["yes"]


@pytest.mark.parametrize("waits_for", ["a child", "an answer"])
async def test_a_thread_that_is_rolled_back_to_what_it_waited_for_goes_on(
    saver: TransactionalSaver, late: TransactionalSaver, waits_for: str
) -> None:
    """What it waits for has come while it was elsewhere, and there was nobody to be told."""
    families.meet["terms"] = {"expires": timedelta(hours=1), "otherwise": "too late"}
    name = "parent" if waits_for == "a child" else "waiting"
    await flow_of(saver, name).ainvoke({"n": 1}, PARENT)
    elsewhere = transactional(chain(saver, families.hold), name=f"{FAMILIES}:{name}")
    running = asyncio.create_task(elsewhere.ainvoke({"n": 2}, PARENT))
    await families.meet["here"].wait()
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.question SET expires_at = expires_at - interval '1 day'")
    async with working(saver):
        if waits_for == "a child":
            await ended(saver)
        await until(lambda: _was_looked_after(saver))
        assert await late.aroll_back("p")
        families.meet["go here"].set()
        with pytest.raises(StaleRun):
            await running
        await completed(saver, "p")
    assert await seen(saver, "p", name) == ([["did 7"]] if waits_for == "a child" else ["too late"])


async def _was_looked_after(saver: TransactionalSaver) -> bool:
    async with saver.transaction() as tx:
        return bool(await tx.fetchval("SELECT bool_and(expired OR expires_at IS NULL) FROM runtime.question"))
