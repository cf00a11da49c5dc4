"""Hedged requests as far as asyncio is concerned: two attempts, of which one answer is used. Nothing of routing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["hedged"]

T = TypeVar("T")


async def hedged(
    first: Coroutine[Any, Any, T],
    *,
    after: float,
    second: Callable[[bool], Coroutine[Any, Any, T] | None],
    is_final: Callable[[BaseException], bool],
    discard: Callable[[T], Awaitable[None]],
) -> T:
    """The answer of whichever attempt has one first.

    However it ends, nothing is left behind: the other attempt is cancelled and waited for, and an answer that came all
    the same (both at once, or while the caller was being cancelled) is discarded.

    Args:
        first: the first attempt, which begins at once.
        after: seconds until a second one may be made.
        second: told whether the first has ended by then; makes the second attempt, or `None`.
        is_final: whether a failure of the first attempt ends the second one too. None of the second ends the first.
        discard: gets rid of an answer that is not used.

    Raises:
        Exception: the first attempt's failure if both fail, or a final one.
    """
    leading = asyncio.create_task(first)
    tasks = {leading}
    try:
        await asyncio.wait(tasks, timeout=after)
        another = second(leading.done())
        if another is not None:
            tasks.add(asyncio.create_task(another))
        winner = await _first_answer(leading, tasks, is_final)
    except BaseException:
        await _abandon(tasks, discard)
        raise
    try:
        await _abandon(tasks - {winner}, discard)
    except BaseException:  # cancelled meanwhile: the answer comes too late as well
        await discard(winner.result())
        raise
    return winner.result()


async def _first_answer(
    leading: asyncio.Task[T], tasks: set[asyncio.Task[T]], is_final: Callable[[BaseException], bool]
) -> asyncio.Task[T]:
    remaining = set(tasks)
    while remaining:
        done, remaining = await asyncio.wait(remaining, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=lambda each: each is not leading):
            error = task.exception()
            if error is None:
                return task
            if task is leading and is_final(error):
                raise error
    leading.result()  # raises
    raise AssertionError("unreachable")


async def _abandon(tasks: set[asyncio.Task[T]], discard: Callable[[T], Awaitable[None]]) -> None:
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while pending := {task for task in tasks if not task.done()}:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error  # noted; no task may be left behind
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await discard(task.result())
    if cancelled is not None:
        raise cancelled
