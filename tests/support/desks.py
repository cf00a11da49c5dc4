"""What the tests of the example flows share: threads, questions, and meetings that are forced."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import TransactionalSaver, current_step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

__all__ = ["Desk", "at", "first_time_in_a_thread", "meet_after", "once_after", "question", "saver_without_keys"]


class Desk:
    """A flow on a saver, and its tables.

    Attributes:
        flow: transactional, or whatever a test puts in its place.
    """

    def __init__(self, saver: TransactionalSaver, flow: Any) -> None:
        self.saver = saver
        self.flow = flow

    async def sql(self, statement: str, *args: Any) -> Any:
        """The first value that a statement returns."""
        async with self.saver.transaction() as tx:
            return await tx.fetchval(statement, *args)

    async def rows(self, query: str) -> list[Any]:
        async with self.saver.transaction() as tx:
            return list(await tx.fetch(query))


def at(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def question(out: Any) -> dict[str, Any]:
    """What a run that waits for an answer asks."""
    (asked,) = out["__interrupt__"]
    value: dict[str, Any] = asked.value
    return value


@asynccontextmanager
async def saver_without_keys(
    url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[TransactionalSaver]:
    """Models answer offline. The fixture's parameter is how long a super-step keeps its transaction between reads."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with TransactionalSaver.from_conn_string(url, hold_idle=getattr(request, "param", 0.25)) as saver:
        await saver.setup()
        yield saver


def first_time_in_a_thread(call: Any, then: Callable[[], Awaitable[Any]]) -> Any:
    """The call, and something after it when a thread makes it for the first time."""
    been = set[str]()

    async def made(*args: Any, **kwargs: Any) -> Any:
        result = await call(*args, **kwargs)
        thread = current_step().thread_id
        if thread not in been:
            been.add(thread)
            await then()
        return result

    return made


def meet_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, parties: int) -> None:
    """Have the tasks of so many threads wait for each other after a read of theirs, each the first time."""
    meeting = first_time_in_a_thread(getattr(module, name), asyncio.Barrier(parties).wait)
    monkeypatch.setattr(module, name, meeting)


def once_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, move: Callable[[], Awaitable[Any]]) -> None:
    """Have something move after the first call of a function."""
    call, moved = getattr(module, name), []

    async def moving(*args: Any) -> Any:
        answer = await call(*args)
        if not moved:
            moved.append(True)
            await move()
        return answer

    monkeypatch.setattr(module, name, moving)
