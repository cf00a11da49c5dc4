"""A child exists exactly when the decision does, and once; its end reaches its parent whatever happens in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.runtime import RunControl

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import ConfigError, EffectRepeated, ValueNotSerializable
from superstep.runtime.flow.transactional import transactional
from superstep.runtime.settings.settings import RunSettings
from superstep.runtime.workers.graphs import Graphs
from superstep.runtime.workers.perform import output_of, perform
from tests.runtime.workers import families
from tests.runtime.workers.conftest import ended, until, working
from tests.runtime.workers.test_children import FAMILIES, completed, seen
from tests.support.bank import Bank, make_bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer import Claimed

PARENT: Any = {"configurable": {"thread_id": "p"}}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    families.reset()
    yield
    for name in (*failpoints.NAMES, *failpoints.CHILD_NAMES):
        failpoints.disarm(name)


def parent(saver: TransactionalSaver, **how: Any) -> Any:
    return transactional(families.parent.copy(update={"checkpointer": saver}), name=f"{FAMILIES}:parent", **how)


async def children(saver: TransactionalSaver) -> list[str]:
    return [run.thread_id for run in await saver.fleet.runs() if run.parent == "p"]


async def test_a_drift_of_the_step_leaves_one_child(saver: TransactionalSaver) -> None:
    """The step is decided twice, on other facts, and in other words: it has spawned one child."""

    async def drift() -> None:
        families.meet.pop("spawned")
        families.meet["input"] = {"n": 9}
        await Bank(saver).set(77)

    families.meet["spawned"] = drift
    result = await parent(saver).ainvoke({"n": 1}, PARENT)
    assert families.did.count("spawn") == 2
    assert families.spawned[0] == families.spawned[1]
    assert await children(saver) == result["bag"]["children"]
    async with working(saver):
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 9"]]


async def test_a_commit_that_fails_leaves_none(saver: TransactionalSaver) -> None:
    async def fail() -> None:
        raise ValueError("crash")

    failpoints.arm("commit.staged", fail)
    with pytest.raises(ValueError, match="crash"):
        await parent(saver).ainvoke({"n": 1}, PARENT)
    failpoints.disarm("commit.staged")
    assert await children(saver) == []
    result = await parent(saver).ainvoke(None, PARENT)
    assert await children(saver) == result["bag"]["children"]


async def test_a_lost_answer_to_commit_has_one_child(saver: TransactionalSaver) -> None:
    lost = 0

    async def lose() -> None:
        nonlocal lost
        lost += 1
        if lost == 1:
            raise ConnectionResetError

    failpoints.arm("commit.lost_answer", lose)
    result = await parent(saver).ainvoke({"n": 1}, PARENT)
    assert lost >= 1
    assert await children(saver) == result["bag"]["children"]


async def test_who_spawns_and_fails_has_spawned_nothing(saver: TransactionalSaver) -> None:
    families.meet["input"] = {"n": object()}
    with pytest.raises((TypeError, ValueNotSerializable)):
        await parent(saver).ainvoke({"n": 1}, PARENT)
    families.meet["input"] = {"n": 1, "bag": {"lock": asyncio.Lock()}}
    with pytest.raises(ValueNotSerializable):
        await parent(saver).ainvoke(None, PARENT)
    assert await children(saver) == []


async def test_a_child_is_not_awaited_where_it_is_spawned(saver: TransactionalSaver) -> None:
    flow = transactional(families.impatient.copy(update={"checkpointer": saver}))
    with pytest.raises(ConfigError, match="this very super-step"):
        await flow.ainvoke({"n": 1}, PARENT)
    flow = transactional(families.mistaken.copy(update={"checkpointer": saver}))
    with pytest.raises(ConfigError, match="no child run"):
        await flow.ainvoke({"n": 1}, {"configurable": {"thread_id": "q"}})


# -- the end of the child ---------------------------------------------------------------------------------------------


async def performed(late: TransactionalSaver) -> tuple[Claimed, Any]:
    """The child was run to its end by a worker that has not said so yet."""
    (run,) = await late.fleet.claim(late.runs.worker.id, [families.CHILD], 1, 60.0)
    async with Graphs(late, RunSettings(), [run.graph]) as graphs, graphs.flow(run.graph, {}, None) as flow:
        state = await perform(flow, late, run, late.fleet.request(run, late.serde), RunControl(), begun=False)
        assert state == "completed"
        return run, await output_of(flow, run.thread_id)


async def wakes(saver: TransactionalSaver) -> int:
    return sum(run.answer == "child" for run in await saver.fleet.runs())


async def spawned(saver: TransactionalSaver) -> None:
    """The parent has spawned, and stands before it waits."""
    flow = families.parent.copy(update={"checkpointer": saver, "interrupt_before_nodes": ["gather"]})
    await transactional(flow, name=f"{FAMILIES}:parent").ainvoke({"n": 1}, PARENT)


async def test_a_child_that_ends_while_its_parent_stops_to_wait(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    """The parent has noted that it waits, and not committed it, when the child ends: the end waits, and wakes it."""
    await spawned(saver)
    run, values = await performed(late)
    ending: list[asyncio.Task[bool]] = []

    async def end_now() -> None:
        ending.append(asyncio.create_task(late.fleet.end(run, "completed", values=values)))
        await Bank(saver).lock_waited_for(unless=ending[0])

    failpoints.arm("question.asked", end_now)
    assert "__interrupt__" in await parent(saver).ainvoke(None, PARENT)
    failpoints.disarm("question.asked")
    assert await ending[0]
    assert await wakes(saver) == 1
    async with working(saver):
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 7"]]


async def test_a_parent_that_stops_to_wait_while_its_child_ends(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    """The other way round: the child has ended, and not committed it, when the parent notes that it waits."""
    await spawned(saver)
    run, values = await performed(late)
    stopping: list[asyncio.Task[Any]] = []

    async def stop_now() -> None:
        stopping.append(asyncio.create_task(parent(saver).ainvoke(None, PARENT)))
        await Bank(saver).lock_waited_for(unless=stopping[0])

    failpoints.arm("child.woken", stop_now)
    assert await late.fleet.end(run, "completed", values=values)
    assert "__interrupt__" in await stopping[0]
    assert await wakes(saver) == 1
    async with working(saver):
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 7"]]


async def test_a_worker_that_dies_while_it_records_the_end(saver: TransactionalSaver, late: TransactionalSaver) -> None:
    assert "__interrupt__" in await parent(saver).ainvoke({"n": 1}, PARENT)
    run, values = await performed(late)

    async def die() -> None:
        failpoints.disarm("child.settled")
        raise asyncio.CancelledError

    failpoints.arm("child.settled", die)
    with pytest.raises(asyncio.CancelledError):
        await late.fleet.end(run, "completed", values=values)
    assert (await wakes(saver), [each.state for each in await saver.fleet.runs()]) == (0, ["running"])
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.queued_run SET lease_until = now() - interval '1 second'")
    async with working(saver):
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 7"]]
    assert families.did.count("work 7") == 1
    assert not await late.fleet.end(run, "failed", "late")  # it wakes up, and has nothing to say any more
    assert await wakes(saver) == 1


async def test_a_child_that_has_ended_before_is_not_waited_for(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    await spawned(saver)
    run, values = await performed(late)
    await late.fleet.end(run, "completed", values=values)
    assert (await parent(saver).ainvoke(None, PARENT))["seen"] == [["did 7"]]
    assert await wakes(saver) == 0


# -- going back -------------------------------------------------------------------------------------------------------


async def before(flow: Any, node: str) -> Any:
    async for state in flow.aget_state_history(PARENT):
        if state.next == (node,):
            return state.config
    raise AssertionError(node)


async def test_a_thread_that_is_set_back_chooses(saver: TransactionalSaver) -> None:
    async with working(saver):
        await parent(saver).ainvoke({"n": 1}, PARENT)
        await completed(saver, "p")
        (first,) = await children(saver)
        there = await before(parent(saver), "spawn")
        with pytest.raises(EffectRepeated) as refused:
            await parent(saver).ainvoke(None, there)
        assert (refused.value.effect, refused.value.topic, refused.value.task) == (first, families.CHILD, "spawn")
        assert await children(saver) == [first]
        families.meet["input"] = {"n": 50}
        kept = await parent(saver, effects="keep").ainvoke(None, PARENT)
        assert (kept["seen"], await children(saver)) == ([["did 7"]], [first])
        there = await before(parent(saver), "spawn")
        await parent(saver, effects="again").ainvoke(None, there)
        await until(lambda: _has_two(saver))
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 50"]]


async def _has_two(saver: TransactionalSaver) -> bool:
    return len(await children(saver)) == 2


async def test_a_parent_that_is_set_back_while_the_child_runs_finds_its_end(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    flow = parent(saver)
    await flow.ainvoke({"n": 1}, PARENT)
    there = await before(flow, "gather")
    await flow.aupdate_state(there, {"seen": ["elsewhere"]}, as_node="spawn")
    run, values = await performed(late)
    assert await late.fleet.end(run, "completed", values=values)
    assert await wakes(saver) == 0  # it stands elsewhere
    assert (await flow.ainvoke(None, PARENT))["seen"] == ["elsewhere", ["did 7"]]


async def test_what_children_are_given_and_give_is_encrypted(database_url: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(), key=b"k" * 32)
    families.meet["input"] = {"n": 987654321}
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await saver.setup()
        await make_bank(saver)
        async with working(saver):
            await parent(saver).ainvoke({"n": 1}, PARENT)
            await completed(saver, "p")
            await ended(saver, 2)
        assert await seen(saver, "p") == [["did 987654321"]]
        async with saver.transaction() as tx:
            for table in ("child_run", "queued_run", "question"):
                said = await tx.fetchval(f"SELECT string_agg({table}::text, ' ') FROM runtime.{table}")
                assert b"987654321".hex() not in said
