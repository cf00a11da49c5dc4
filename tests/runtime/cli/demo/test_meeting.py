"""Where flows meet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from superstep.runtime.cli.demo import meeting
from superstep.runtime.cli.demo.meeting import Meeting

if TYPE_CHECKING:
    import pytest


async def test_nobody_goes_on_before_all_are_here() -> None:
    place, passed = Meeting(2), []

    async def one(name: str) -> None:
        await place.wait(name)
        passed.append(name)

    first = asyncio.create_task(one("a"))
    again = asyncio.create_task(one("a"))  # a node that runs again is no other flow
    for _ in range(5):
        await asyncio.sleep(0)
    assert passed == []
    await one("b")
    await asyncio.gather(first, again)
    assert sorted(passed) == ["a", "a", "b"]
    await place.wait("a")


async def test_who_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.01)
    place = Meeting(2)
    await place.wait("a")
    monkeypatch.setattr(meeting, "PATIENCE", 600)
    await place.wait("a")
