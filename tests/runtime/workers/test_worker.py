"""What a worker makes of a run: how it ends, when it is tried again, who waits for whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from langgraph.types import Command

from superstep.checkpointer import current_step
from superstep.checkpointer.effects import handlers
from superstep.checkpointer.fleet.fleet import Fleet
from superstep.checkpointer.fleet.schedules import Schedules
from superstep.effects import handler
from superstep.runtime.flow.transactional import transactional
from tests.runtime.workers import families, flows
from tests.runtime.workers.conftest import FLOWS, ended, until, working
from tests.support.bank import Bank
from tests.support.effects import Received
from tests.support.graphs import chain

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver


async def test_runs_are_performed_and_their_ends_recorded(saver: TransactionalSaver) -> None:
    async with working(saver):
        threads = [await saver.fleet.submit(f"{FLOWS}:flow", {"n": n}) for n in range(5)]
        runs = await ended(saver, 5)
    assert [(run.thread_id, run.state, run.delivery) for run in runs] == [(each, "completed", 1) for each in threads]
    assert sorted(await Bank(saver).journal()) == sorted(f"{each} {n}" for n, each in enumerate(threads))
    summaries = [await saver.athread(each) for each in threads]
    assert {(each.status, each.graph) for each in summaries if each} == {
        ("completed", FLOWS)
    }  # as the module may be called


async def test_a_question_is_an_end_and_no_failure(saver: TransactionalSaver) -> None:
    async with working(saver):
        thread = await saver.fleet.submit(f"{FLOWS}:asking", {"n": 1})
        (run,) = await ended(saver)
    assert (run.state, run.error) == ("interrupted", None)
    flow = transactional(flows.asking.copy(update={"checkpointer": saver}))
    state = await flow.ainvoke(Command(resume="yes"), {"configurable": {"thread_id": thread}})
    assert state["seen"] == ["yes", 1]


async def test_a_run_that_fails_is_listed_with_its_error_and_not_tried_again(saver: TransactionalSaver) -> None:
    said: list[str] = []
    async with working(saver, said):
        await saver.fleet.submit(f"{FLOWS}:failing", {"n": 1})
        (run,) = await ended(saver)
    assert (run.state, run.error) == ("failed", "ValueError: no such account")
    assert flows.did == ["fail"]
    assert any("no such account" in line for line in said)


async def test_an_error_that_may_pass_is_tried_again(saver: TransactionalSaver) -> None:
    async with working(saver):
        await saver.fleet.submit(f"{FLOWS}:stumbling", {"n": 1})
        (run,) = await ended(saver)
    assert (run.state, run.delivery, run.failures) == ("completed", 3, 2)


async def test_but_not_for_ever(saver: TransactionalSaver) -> None:
    async with working(saver, tries=2):
        await saver.fleet.submit(f"{FLOWS}:stumbling", {"n": 1})
        (run,) = await ended(saver)
    assert (run.state, flows.did) == ("failed", ["stumble"] * 2)


async def test_two_runs_of_a_thread_with_two_workers_do_not_meet(
    saver: TransactionalSaver, late: TransactionalSaver
) -> None:
    async with working(saver), working(late):
        for n in (1, 2):
            await saver.fleet.submit(f"{FLOWS}:waiting", {"n": n}, thread="t")
        await flows.at["here"].wait()
        await saver.fleet.submit(f"{FLOWS}:flow", {"n": 3}, thread="other")
        await until(lambda: "write other" in flows.did)
        assert flows.did.count("wait") == 1
        flows.go["here"].set()
        runs = await ended(saver, 3)
    assert [run.state for run in runs] == ["completed"] * 3
    assert [line for line in await Bank(saver).journal() if line.startswith("t ")] == ["t 1", "t 2"]


async def test_a_thread_that_a_command_is_at_is_waited_for(saver: TransactionalSaver) -> None:
    mine = transactional(flows.waiting.copy(update={"checkpointer": saver}), name=f"{FLOWS}:waiting")
    command = asyncio.create_task(mine.ainvoke({"n": 1}, {"configurable": {"thread_id": "t"}}))
    await flows.at["here"].wait()
    async with working(saver):
        await saver.fleet.submit(f"{FLOWS}:waiting", {"n": 2}, thread="t")
        await until(lambda: _was_put_back(saver))
        assert flows.did == ["wait"]
        flows.go["here"].set()
        await command
        (run,) = await ended(saver)
    assert (run.state, await Bank(saver).journal()) == ("completed", ["t 1", "t 2"])


async def _was_put_back(saver: TransactionalSaver) -> bool:
    (run,) = await saver.fleet.runs()
    return run.delivery > 0 and (run.error or "").startswith("ThreadBusy")


async def test_types_of_a_graphs_state_come_as_what_they_are(saver: TransactionalSaver) -> None:
    fleet = saver.of_graph(flows.parking).fleet
    async with working(saver):
        await fleet.submit(f"{FLOWS}:parking", {"car": flows.Car(flows.Colour.RED)})
        (run,) = await ended(saver)
    assert (run.state, flows.did) == ("completed", [flows.Car(flows.Colour.RED)])


async def test_a_factory_is_called_for_each_run(saver: TransactionalSaver) -> None:
    async with working(saver):
        for name in ("a", "b"):
            await saver.fleet.submit(f"{FLOWS}:made", {"n": 1}, thread=name)
        await ended(saver, 2)
    assert {"a", "b"} <= set(flows.did)


async def test_a_graph_that_a_worker_has_not_got_is_said_and_left_to_others(saver: TransactionalSaver) -> None:
    said: list[str] = []
    await saver.fleet.submit("no.such.module", {})
    await saver.fleet.submit(f"{FLOWS}:asking", {})
    async with working(saver, said, only=[f"{FLOWS}:flow"]):
        await until(lambda: len([line for line in said if "left to others" in line]) == 2)
    (nowhere,) = [line for line in said if "no.such.module" in line]
    assert "There is no module no.such.module" in nowhere
    assert "No worker has it" in nowhere
    runs = await saver.fleet.runs()
    assert [(run.state, run.has_worker) for run in runs] == [("queued", False)] * 2
    async with working(saver):
        await until(lambda: _state_of(saver, f"{FLOWS}:asking", "interrupted"))


async def _state_of(saver: TransactionalSaver, graph: str, state: str) -> bool:
    return any(run.graph == graph and run.state == state for run in await saver.fleet.runs())


async def test_a_worker_that_stops_lets_runs_commit_their_super_step_and_hands_on(saver: TransactionalSaver) -> None:
    async with working(saver, lease=60.0) as stop:
        await saver.fleet.submit(f"{FLOWS}:waiting", {"n": 1}, thread="t")
        await flows.at["here"].wait()
        stop.set()
        flows.go["here"].set()
    (run,) = await saver.fleet.runs()
    assert (run.state, [step.nodes for step in await saver.asteps("t")]) == ("queued", [["wait"]])
    async with working(saver):
        (run,) = await ended(saver)
    assert (run.state, run.delivery, flows.did.count("wait")) == ("completed", 2, 1)
    assert await Bank(saver).journal() == ["t 1"]


async def test_what_ends_while_a_worker_stops_is_recorded_before_the_others_end(saver: TransactionalSaver) -> None:
    families.reset()

    async def is_recorded() -> bool:
        return [run.state for run in await saver.fleet.runs(thread="quick")] == ["completed"]

    async with working(saver, lease=60.0, grace=60.0) as stop:
        await saver.fleet.submit(f"{families.__name__}:holding", {"n": 1}, thread="slow")
        await saver.fleet.submit(f"{families.__name__}:holding_there", {"n": 1}, thread="quick")
        await asyncio.gather(families.meet["here"].wait(), families.meet["there"].wait())
        stop.set()
        await asyncio.sleep(0.05)
        families.meet["go there"].set()
        await until(is_recorded)
        families.meet["go here"].set()
    assert [run.state for run in await saver.fleet.runs(thread="slow")] == ["queued"]


async def test_what_has_not_ended_by_then_is_handed_on_as_it_is(saver: TransactionalSaver) -> None:
    async with working(saver, lease=60.0, grace=0.0) as stop:
        await saver.fleet.submit(f"{FLOWS}:siblings", {"n": 1}, thread="t")
        await flows.at["here"].wait()
        await until(lambda: _has_result(saver))
        stop.set()
    flows.go["here"].set()
    async with working(saver):
        (run,) = await ended(saver)
    assert (run.state, run.delivery) == ("completed", 2)
    assert flows.did.count("write t") == 1  # its result was stored, and is not paid for twice
    assert flows.did.count("wait") == 2
    assert await Bank(saver).journal() == ["t 1"]


async def _has_result(saver: TransactionalSaver) -> bool:
    async with saver.transaction() as tx:
        return bool(await tx.fetchval("SELECT count(*) FROM runtime.task_effect"))


async def test_a_run_that_kills_its_workers_is_given_up(saver: TransactionalSaver) -> None:
    await saver.fleet.submit(f"{FLOWS}:flow", {"n": 1})
    async with saver.transaction() as tx:
        await tx.execute(
            "UPDATE runtime.queued_run SET state = 'running', delivery = 2, lease_until = now(), worker_id = $1, "
            "left_by = ARRAY[$1::uuid]",
            uuid4(),
        )
    async with working(saver, tries=2):
        (run,) = await ended(saver)
    assert (run.state, flows.did) == ("failed", [])
    assert "2 workers" in str(run.error)


async def test_an_effect_of_a_flow_of_another_name_is_delivered_by_whoever_has_its_handler(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a program, which calls its flow as it likes."""
    monkeypatch.setattr(handlers, "_handlers", {})
    received = Received()
    handler("mail")(received)

    async def emits(_: Any) -> Any:
        current_step().emit("mail", "x")
        return {}

    await transactional(chain(saver, emits), name="loans").ainvoke({}, {"configurable": {"thread_id": "t"}})
    async with working(saver):
        await received.has(1)


@pytest.mark.parametrize(("room", "name"), [(Fleet, "renew"), (Fleet, "look_after"), (Schedules, "submit_due")])
async def test_what_fails_once_beside_the_runs_is_done_again(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch, room: Any, name: str
) -> None:
    """A lock that another one holds, a full disk: the leases are kept, and times that come are seen, all the same."""
    works, calls = getattr(room, name), list[int]()

    async def fails_once(*args: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 2:
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        return await works(*args)

    monkeypatch.setattr(room, name, fails_once)
    async with working(saver, lease=0.6):
        await until(lambda: len(calls) > 3)
