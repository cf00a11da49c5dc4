"""The router under thousands of seeded schedules of outages, storms, slow spells, hangs and cancellations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from superstep.providers.policy.failures import Action
from superstep.runtime.faults import ProviderExhausted, ProviderRejected
from tests.simulation.schedules import draw
from tests.simulation.verdict import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import World

BLOCK = 250


@pytest.mark.parametrize("block", range(8))
def test_every_promise_is_kept(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        simulate(draw(seed))


def trace(seed: int) -> list[tuple[object, ...]]:
    world = simulate(draw(seed))
    every = [each for attempts in world.attempts.values() for each in attempts]
    return [
        (each.made.number, each.name, each.began, each.ended, each.left, each.failure, each.probe) for each in every
    ]


def test_a_seed_always_means_the_same() -> None:
    for seed in range(50):
        assert trace(seed) == trace(seed)


def corners(world: World) -> Iterator[str]:
    for made in world.made:
        actions = [each.failure.action for each in made.attempts if each.failure is not None]
        yield from (f"left: {action.value}" for action in set(actions))
        yield from ("probe" for each in made.attempts if each.probe)
        names = [each.name for each in made.attempts]
        if len(set(names)) < len(names):
            yield "asked again"
        if made.attempts and made.attempts[0].began > made.began:
            yield "waited"
        if made.ask.attempts.hedged:
            yield "hedged"
        if made.won is not None:
            yield f"answered by {made.won.name.partition('/')[0]}"
        elif isinstance(made.error, ProviderExhausted):
            yield "rejected" if isinstance(made.error, ProviderRejected) else "exhausted"
        else:
            yield "cancelled"
        if any(each.answered and each is not made.won for each in made.attempts):
            yield "answered too late"


def test_the_schedules_reach_every_corner() -> None:
    seen = Counter(corner for seed in range(400) for corner in corners(simulate(draw(seed))))
    expected = {f"left: {action.value}" for action in Action} | {"probe", "asked again", "waited", "hedged"}
    expected |= {f"answered by {route}" for route in ("main", "spare", "wide", "lenient")}
    expected |= {"rejected", "exhausted", "cancelled", "answered too late"}
    assert set(seen) == expected
    assert min(seen[corner] for corner in expected - {"answered too late"}) >= 10, seen
