"""Which runs a worker is given, and in which order: threads, limits, tenants, leases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from superstep.checkpointer import End, Limit, Order, Request
from superstep.runtime.faults import ConfigError
from tests.checkpointer.fleet.conftest import GRAPH
from tests.support.bank import Bank

if TYPE_CHECKING:
    from superstep.checkpointer import Claimed, Fleet, TransactionalSaver
    from tests.checkpointer.fleet.conftest import Claim


def order(name: str, **more: Any) -> Order:
    return Order(**{"graph": GRAPH, "request": Request({}), "thread": name, **more})


def names(runs: list[Claimed]) -> list[str]:
    return [run.thread_id for run in runs]


async def let_go(saver: TransactionalSaver) -> None:
    """All leases run out."""
    async with saver.transaction() as tx:
        await tx.execute(
            "UPDATE runtime.queued_run SET lease_until = now() - interval '1 second' WHERE state = 'running'"
        )


async def test_runs_of_one_thread_come_one_after_the_other_in_their_order(fleet: Fleet, claim: Claim) -> None:
    await fleet.submit_all([order("t"), order("t", priority=9), order("other")])
    first, other = await claim(9)
    assert names([first, other]) == ["t", "other"]
    assert await claim(9) == []
    await fleet.end(first, "completed")
    (second,) = await claim(9)
    assert (second.thread_id, second.run_id != first.run_id) == ("t", True)


async def test_a_run_that_is_tried_again_comes_before_the_next_one_of_its_thread(
    saver: TransactionalSaver, fleet: Fleet, claim: Claim
) -> None:
    await fleet.submit_all([order("t", delay=timedelta(hours=1)), order("t")])
    (begun,) = await claim()
    await fleet.put_back(begun, 3600.0, "StaleRun: …", failed=True)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.queued_run SET due_at = now() WHERE delivery = 0")
    assert await claim() == []
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.queued_run SET due_at = now()")
    (again,) = await claim()
    assert (again.run_id, again.delivery, again.failures) == (begun.run_id, 2, 1)


async def test_a_worker_is_given_runs_of_the_graphs_that_it_has(fleet: Fleet, claim: Claim) -> None:
    await fleet.submit_all([order("a"), order("b", graph="another")])
    assert names(await claim(9, graphs=("another",))) == ["b"]
    assert await fleet.graphs() == {GRAPH: False, "another": False}
    await fleet.beat(uuid4(), [GRAPH], 1, 60.0)
    assert await fleet.graphs() == {GRAPH: True, "another": False}


async def test_a_greater_priority_starts_first_and_among_equals_the_older_one(fleet: Fleet, claim: Claim) -> None:
    await fleet.submit_all([order("a"), order("b", priority=1), order("c"), order("d", priority=1)])
    assert [names(await claim())[0] for _ in range(4)] == ["b", "d", "a", "c"]


@pytest.mark.parametrize("at_once", [1, 4])
async def test_tenants_take_turns_whatever_each_has_queued(fleet: Fleet, claim: Claim, at_once: int) -> None:
    many = [order(f"many-{n}", tenant="many", priority=9) for n in range(50)]
    await fleet.submit_all([*many, *(order(f"few-{n}", tenant="few") for n in range(2)), order("one", tenant="one")])
    started = [name for _ in range(12 // at_once) for name in names(await claim(at_once))]
    # Nobody has been served yet, so the first round is in the order of names.
    assert started[:6] == ["few-0", "many-0", "one", "few-1", "many-1", "many-2"]
    await fleet.submit_all([order("late", tenant="late")])
    assert names(await claim())[0] == "late"


@pytest.mark.parametrize("name", [GRAPH, "*"])
async def test_a_graph_has_no_more_runs_at_once_than_its_limit(fleet: Fleet, claim: Claim, name: str) -> None:
    await fleet.set_limit(Limit("graph", name, 2))
    await fleet.submit_all([order(f"t-{n}", tenant=str(n % 2)) for n in range(5)])
    first = await claim(5)
    assert len(first) == 2
    assert await claim(5) == []
    await fleet.end(first[0], "completed")
    assert len(await claim(5)) == 1
    assert await fleet.drop_limit("graph", name)
    assert len(await claim(5)) == 2


async def test_a_limit_of_its_own_comes_before_that_of_all(fleet: Fleet, claim: Claim) -> None:
    await fleet.set_limit(Limit("key", "*", 1))
    await fleet.set_limit(Limit("key", "big", 3))
    await fleet.submit_all([order(f"big-{n}", key="big") for n in range(5)])
    await fleet.submit_all([order(f"small-{n}", key="small") for n in range(3)])
    await fleet.submit_all([order(f"free-{n}") for n in range(2)])
    taken = names(await claim(20)) + names(await claim(20))
    assert sorted(name.split("-")[0] for name in taken) == ["big"] * 3 + ["free"] * 2 + ["small"]


async def test_a_full_key_holds_nobody_else_up(fleet: Fleet, claim: Claim) -> None:
    await fleet.set_limit(Limit("key", "slow", 1))
    await fleet.submit_all([order(f"slow-{n}", key="slow") for n in range(30)] + [order("quick")])
    assert names(await claim()) == ["slow-0"]
    assert names(await claim()) == ["quick"]


async def test_two_workers_together_do_not_exceed_a_limit(
    saver: TransactionalSaver, fleet: Fleet, claim: Claim, database_url: str
) -> None:
    """One has given out the last place and not committed yet when the other one wants to."""
    await fleet.set_limit(Limit("graph", GRAPH, 1))
    await fleet.submit_all([order("a"), order("b")])
    rival = await asyncpg.connect(database_url)
    try:
        async with rival.transaction():
            await rival.execute("UPDATE runtime.run_gate SET served = served + 1")
            await rival.execute(
                "UPDATE runtime.queued_run SET state = 'running', delivery = 1, worker_id = gen_random_uuid(), "
                "lease_until = now() + interval '1 hour' WHERE thread_id = 'a'"
            )
            other = asyncio.create_task(claim())
            await Bank(saver).lock_waited_for(unless=other)
            assert not other.done()
        assert await other == []
    finally:
        await rival.close()


async def test_what_a_worker_has_let_go_of_goes_on_elsewhere_and_what_it_says_later_counts_no_more(
    saver: TransactionalSaver, fleet: Fleet, claim: Claim
) -> None:
    await fleet.set_limit(Limit("graph", GRAPH, 1))
    await fleet.submit_all([order("t"), order("other")])
    worker = uuid4()
    (late,) = await fleet.claim(worker, [GRAPH], 1, 60.0)
    assert await fleet.renew(worker, [late], 60.0) == {late.run_id}
    assert await claim(9) == []
    await let_go(saver)
    assert await fleet.claim(worker, [GRAPH], 9, 60.0, mine=[late.run_id]) == []
    (run,) = await claim(9)
    assert (run.run_id, run.delivery, run.left_by) == (late.run_id, 2, (worker,))
    assert await fleet.renew(worker, [late], 60.0) == set()
    assert not await fleet.end(late, "failed", "late")
    assert not await fleet.put_back(late)
    assert await fleet.end(run, "completed")
    states = {each.thread_id: (each.state, each.error) for each in await fleet.runs()}
    assert states == {"t": ("completed", None), "other": ("queued", None)}


async def test_ends_make_room_for_the_runs_that_are_given_out_with_them(fleet: Fleet) -> None:
    await fleet.set_limit(Limit("graph", GRAPH, 2))
    await fleet.submit_all([order("a"), order("b"), order("a"), order("c")])
    worker = uuid4()
    a, b = await fleet.claim(worker, [GRAPH], 9, 60.0)
    mine = [a.run_id, b.run_id]
    ends = [End(b, "failed", "ValueError: no"), End(a, "completed")]
    got = await fleet.exchange(worker, [GRAPH], 9, 60.0, mine, ends)
    assert (names(got.runs), got.recorded) == (["a", "c"], set(mine))
    states = [(each.thread_id, each.state, each.error) for each in await fleet.runs()]
    running = ("running", None)
    assert states == [("c", *running), ("a", *running), ("b", "failed", "ValueError: no"), ("a", "completed", None)]


async def test_an_end_that_comes_too_late_or_twice_is_not_recorded_and_those_with_it_are(
    saver: TransactionalSaver, fleet: Fleet, claim: Claim
) -> None:
    await fleet.submit_all([order("a"), order("b")])
    worker = uuid4()
    late, mine = await fleet.claim(worker, [GRAPH], 2, 60.0)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.queued_run SET lease_until = now() WHERE thread_id = 'a'")
    (taken,) = await claim(9)
    ends = [End(late, "failed", "late"), End(mine, "completed")]
    for recorded in ({mine.run_id}, set()):
        assert (await fleet.exchange(worker, [GRAPH], 0, 60.0, [], ends)).recorded == recorded
    assert await fleet.end(taken, "completed")


async def test_ends_and_renewals_of_the_same_runs_do_not_wait_for_each_other(
    saver: TransactionalSaver, fleet: Fleet
) -> None:
    """Both lock in the order of ids, whatever order they are given: the renewal holds no row while it waits for one."""
    await fleet.submit_all([order(str(n)) for n in range(2)])
    worker = uuid4()
    runs = sorted(await fleet.claim(worker, [GRAPH], 2, 60.0), key=lambda run: run.run_id)
    async with saver.transaction() as tx:
        await tx.execute("SELECT FROM runtime.queued_run WHERE run_id = $1 FOR UPDATE", runs[0].run_id)
        renewal = asyncio.create_task(fleet.renew(worker, runs[::-1], 60.0))
        await Bank(saver).lock_waited_for(unless=renewal)
        await tx.fetch("SELECT FROM runtime.queued_run WHERE run_id = $1 FOR UPDATE NOWAIT", runs[1].run_id)
    assert await renewal == {run.run_id for run in runs}


async def test_a_look_tells_when_a_run_of_another_worker_may_be_taken_over(fleet: Fleet, claim: Claim) -> None:
    worker = uuid4()
    assert (await fleet.exchange(worker, [GRAPH], 1, 60.0)).until is None
    await fleet.submit_all([order("a"), order("b")])
    await claim(lease=1000.0)
    (mine,) = await fleet.claim(worker, [GRAPH], 1, 10.0)
    until = (await fleet.exchange(worker, [GRAPH], 1, 60.0, [mine.run_id])).until
    assert until is not None
    assert 10 < until <= 1000


async def test_a_limit_that_is_none_is_refused(fleet: Fleet) -> None:
    for limit in (Limit("graph", "a", 0), Limit("tenant", "a", 1)):
        with pytest.raises(ConfigError):
            await fleet.set_limit(limit)
    assert await fleet.limits() == []
