"""Refreshes follow requests, one at a time."""

from __future__ import annotations

import asyncio

from superstep.runtime.cli.run.debounce import debounced


async def test_requests_during_a_refresh_become_one() -> None:
    begun, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)
    running = 0

    async def refresh() -> None:
        nonlocal running
        running += 1
        assert running == 1
        begun.release()
        await go_on.acquire()
        running -= 1

    async with debounced(refresh) as request:
        request()
        await begun.acquire()
        for _ in range(3):
            request()
        go_on.release()
        await begun.acquire()
        go_on.release()
        request()
        await begun.acquire()
    assert begun.locked()


async def test_a_refresh_that_fails_does_not_end_the_others() -> None:
    begun = asyncio.Semaphore(0)

    async def refresh() -> None:
        begun.release()
        raise RuntimeError("not now")

    async with debounced(refresh) as request:
        for _ in range(2):
            request()
            await begun.acquire()


async def test_nothing_is_refreshed_after_the_end() -> None:
    refreshed = False

    async def refresh() -> None:
        nonlocal refreshed
        refreshed = True

    async with debounced(refresh) as request:
        pass
    request()
    await asyncio.sleep(0)
    assert not refreshed
