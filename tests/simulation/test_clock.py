"""The virtual clock itself."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.clock import START, Deadlock, run_virtual


def test_a_week_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(7 * 86_400)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(START + 7 * 86_400)


def test_timers_run_in_the_order_of_their_time_and_others_as_they_became_ready() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def note(name: str, after: float) -> None:
            await asyncio.sleep(after)
            seen.append(name)

        async with asyncio.TaskGroup() as group:
            for name, after in (("c", 2.0), ("a", 0.0), ("d", 2.5), ("b", 1.0)):
                group.create_task(note(name, after))
        return seen

    assert run_virtual(main()) == ["a", "b", "c", "d"]


def test_time_limits_strike_in_virtual_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return loop.time() - began

    assert run_virtual(main()) == pytest.approx(30.0)


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == START


def test_a_deadlock_is_an_error_instead_of_a_hang() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(main())
