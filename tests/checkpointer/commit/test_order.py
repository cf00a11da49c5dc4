"""When commits go one at a time, and for how long. On a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer.commit import order as module
from superstep.checkpointer.commit.order import CommitOrder, Turn

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
async def order(saver: TransactionalSaver, clock: Clock) -> CommitOrder:
    return CommitOrder(saver.database)


def _until_contended(order: CommitOrder, aborted: float, most: int = 5000) -> int | None:
    """How many tries it takes, of which so large a share is aborted."""
    chance = random.Random(7)
    for at in range(most):
        if order.is_contended:
            return at
        order.tried(aborted=chance.random() < aborted)
    return None


@pytest.mark.parametrize("aborted", [0.0, 0.02, 0.08])
async def test_a_few_that_are_aborted_hold_nobody_up(order: CommitOrder, aborted: float) -> None:
    assert _until_contended(order, aborted) is None


@pytest.mark.parametrize(("aborted", "within"), [(0.4, 150), (0.8, 40), (1.0, 20)])
async def test_many_do_soon(order: CommitOrder, aborted: float, within: int) -> None:
    assert (_until_contended(order, aborted) or within + 1) <= within


async def test_it_lasts_longer_each_time_it_was_too_short(order: CommitOrder, clock: Clock) -> None:
    lasted = []
    for _ in range(8):
        assert _until_contended(order, 1.0) is not None
        lasted.append(order.until - clock.now)
        clock.now = order.until
        assert not order.is_contended
    assert lasted == pytest.approx([0.5, 1, 2, 4, 8, 16, 16, 16])
    clock.now += 60  # a minute without
    assert _until_contended(order, 1.0) is not None
    assert order.until - clock.now == pytest.approx(0.5)


async def test_commits_one_at_a_time_say_nothing_of_those_side_by_side(order: CommitOrder, clock: Clock) -> None:
    _until_contended(order, 1.0)
    for _ in range(500):
        order.tried(aborted=True)
    clock.now = order.until
    assert (_until_contended(order, 1.0) or 0) >= 10


async def test_a_transaction_of_several_grows_and_shrinks_with_its_luck(order: CommitOrder) -> None:
    sizes = []
    for committed in (False, False, True, True, False, False, False, False, True):
        order.learn(committed)
        sizes.append(order.most)
    assert sizes == [8, 4, 5, 6, 3, 2, 2, 2, 3]
    for _ in range(40):
        order.learn(True)
    assert order.most == 16


async def test_a_transaction_is_handed_on_only_while_it_is_young_and_small(order: CommitOrder, clock: Clock) -> None:
    assert await order.acquire() == (True, None)
    waiting = asyncio.create_task(order.acquire())
    await asyncio.sleep(0)
    assert order.may_grow(began=clock.now, members=1)
    assert not order.may_grow(began=clock.now - 0.1, members=1)  # older than that
    assert not order.may_grow(began=clock.now, members=16)
    clock.now += 0.01
    assert order.may_grow(began=clock.now, members=15)
    order.release()
    assert await waiting == (True, None)
    assert not order.may_grow(began=clock.now, members=1)  # nobody waits
    order.release()


@pytest.mark.parametrize("seed", range(20))
async def test_one_at_a_time_and_first_come_first_served(seed: int, saver: TransactionalSaver) -> None:
    """With some that are cancelled while they wait, or as their turn comes."""
    order, chance = CommitOrder(saver.database), random.Random(seed)
    inside: list[int] = []
    served: list[int] = []

    async def commit(at: int) -> None:
        async with Turn(order) as turn:
            await turn.take()
            inside.append(at)
            assert len(inside) == 1
            served.append(at)
            try:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                inside.remove(at)

    tasks: list[asyncio.Task[Any]] = []
    for at in range(30):
        tasks.append(asyncio.create_task(commit(at)))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [end for end in ends if isinstance(end, Exception)]
    assert all(one < other for one, other in pairwise(served))
    assert await order.acquire() == (True, None)  # it is free again
