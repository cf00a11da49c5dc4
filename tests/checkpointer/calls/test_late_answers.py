"""Answers in a subgraph that come while its caller drifts: paid, so the caller has them when it runs again."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.calls import memo
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads import run
from superstep.providers import chat_model
from tests.support.bank import BALANCE, SET
from tests.support.graphs import chain
from tests.support.vendors import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank
    from tests.support.vendors import Act, Request, Vendor

take_over, remember, discard = memo.take_over, memo.remember, run.discard


class Late:
    """A caller asks in two subgraphs at once: about 0, and about its balance, which is not answered until it moved.

    Attributes:
        moments: of the call about 0, in which the caller's balance is moved.
        asked: what was paid.
        forgets: what was taken back.
    """

    def __init__(self, saver: TransactionalSaver, vendor: Vendor, *moments: str) -> None:
        self.moments = list(moments)
        self.asked: list[int] = []
        self.forgets: list[Any] = []
        self._saver = saver
        self._vendor = vendor
        self._stalled = [100, 99][: len(moments)]
        self._movers: list[asyncio.Task[Any]] = []
        self._never, self._forgotten, self._kept = threading.Event(), threading.Event(), asyncio.Event()
        self._comes_late = moments == ("asked",)
        vendor.always(self._reply)

    def _reply(self, request: Request) -> Act:
        (about,) = map(int, re.findall(r"How much of (\d+)", str(request.body)))
        self.asked.append(about)
        said = answer("1")
        if about in self._stalled:
            return said.stall(until=self._never)
        return said.stall(until=self._forgotten) if about == 0 and self._comes_late else said

    async def caller(self, state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - 1, 1)
        await asyncio.gather(self._ask_below(0), self._ask_below(balance))
        return {"seen": [balance]}

    async def _ask_below(self, about: int) -> None:
        async def ask(state: Any) -> Any:
            return {"seen": [(await chat_model("r").ainvoke(f"How much of {about}?")).text]}

        await chain(None, ask).ainvoke({"seen": []})

    async def move(self, moment: str) -> None:
        """Move the balance by a commit of this process, which stops the call about it, if this is the moment."""
        if self.moments[:1] != [moment]:
            return
        self.moments.pop(0)
        await self._vendor.until(lambda: self._states().count("stalled") == 1 + self._comes_late)
        mover = transactional(chain(self._saver, self._takes)).ainvoke(
            {"seen": []}, {"configurable": {"thread_id": moment}}
        )
        self._movers.append(asyncio.create_task(mover))
        seen = {"asked": self._forgotten.is_set, "stored": lambda: self._states().count("gone") == 1}
        await self._vendor.until(seen.get(moment, self._has_drifted))
        if moment not in seen:  # nothing is forgotten before this is stored; were it so, it would be by now
            forgotten = len(self.forgets)
            with suppress(TimeoutError):
                await self._vendor.until(lambda: len(self.forgets) > forgotten, seconds=0.3)

    async def _takes(self, state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - 1, 1)
        return {}

    def _states(self) -> list[str]:
        return [request.state for request in self._vendor.requests]

    def _has_drifted(self) -> bool:
        runs = self._saver.runs._runs.values()
        return any(step.tasks.drifted for each in runs for step in each.steps.values())

    async def stored(self) -> None:
        self._kept.set()
        await self.move("stored")

    async def remember(self, conn: Any, *args: Any) -> bool:
        await self.move("in the middle of being stored")
        return await remember(conn, *args)

    async def take_over(self, conn: Any, schema: str, key: Any, request: bytes, *args: Any) -> Any:
        handed = "SELECT EXISTS (SELECT FROM runtime.llm_call WHERE attempt = 0 AND request = $1)"
        if await conn.fetchval(handed, request):
            await self.move("handed on")
        return await take_over(conn, schema, key, request, *args)

    async def discard(self, *args: Any) -> None:
        await discard(*args)
        self.forgets.append(args)
        self._forgotten.set()
        if self._comes_late:
            await self._kept.wait()

    def end(self) -> None:
        self._never.set()


@pytest.mark.parametrize("moments", [["asked"], ["in the middle of being stored"], ["stored", "handed on"]])
async def test_an_answer_that_comes_while_its_caller_drifts_is_kept_for_the_caller(
    moments: list[str],
    saver: TransactionalSaver,
    bank: Bank,
    vendor: Vendor,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When its caller is forgotten already, in the middle of that, and when it is handed to the next execution."""
    late = Late(saver, vendor, *moments)
    monkeypatch.setattr(memo, "take_over", late.take_over)
    monkeypatch.setattr(memo, "remember", late.remember)
    monkeypatch.setattr(run, "discard", late.discard)
    failpoints.arm("memo.stored", late.stored)
    async with asyncio.timeout(30):
        flow = asyncio.create_task(transactional(chain(saver, late.caller)).ainvoke({"seen": []}, new_thread()))
        await late.move("asked")
        result = await flow
    assert (late.moments, result["seen"]) == ([], [100 - len(moments)])
    assert sorted(late.asked) == [0, *range(100 - len(moments), 101)]
    late.end()
