"""Shows what happens under one seed: every request, in order, and how each call ended."""

from __future__ import annotations

import sys

from tests.simulation.clock import run_virtual
from tests.simulation.schedules import draw
from tests.simulation.verdict import judge
from tests.simulation.world import World


async def _show(seed: int) -> None:
    schedule = draw(seed)
    for route in schedule.catalog.routes.values():
        print(route)
    for server in schedule.servers.values():
        print(server)
    world = World(schedule)
    start = world.now()
    try:
        await world.run()
        judge(world)
    finally:
        every = sorted((each for attempts in world.attempts.values() for each in attempts), key=lambda each: each.began)
        for each in every:
            ended = "-" if each.ended is None else f"{each.ended - start:.3f}"
            how = each.failure.why if each.failure is not None else "answered" if each.answered else "cancelled"
            probe = " (probe)" if each.probe else ""
            print(f"{each.began - start:9.3f} {ended:>9}  call {each.made.number:<3} {each.name:<10} {how}{probe}")
        for made in world.made:
            print(f"call {made.number}: {made.call}: {made.error or 'answered'}")


if __name__ == "__main__":
    run_virtual(_show(int(sys.argv[1])))
