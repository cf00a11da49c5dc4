"""Answers that are paid while the place they belong to is not settled: the step not begun, or the thread lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.providers import chat_model
from superstep.runtime.faults import StaleRun
from tests.support.graphs import State, chain, config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.providers import OfflineRequest

THREAD = config_of("t")


@pytest.fixture
async def savers(database_url: str) -> AsyncIterator[tuple[TransactionalSaver, TransactionalSaver]]:
    """Of two workers."""
    open_saver = TransactionalSaver.from_conn_string
    async with open_saver(database_url) as first, open_saver(database_url) as second:
        yield first, second


@pytest.fixture
def saver(savers: tuple[TransactionalSaver, TransactionalSaver]) -> TransactionalSaver:
    return savers[0]


async def test_no_model_is_asked_before_the_step_that_asks_has_begun_for_good(saver: TransactionalSaver) -> None:
    """A crash before that commit gives the step another id, under which the paid answer is not found again."""
    left, paid = asyncio.Event(), asyncio.Event()
    early: list[bool] = []

    def pay(_: OfflineRequest) -> str:
        paid.set()
        return "answer"

    async def inner_first(state: Any) -> Any:
        left.set()
        return {"n": 1}

    async def inner_second(state: Any) -> Any:
        await chat_model(offline=pay).ainvoke("at once")
        return {"n": 2}

    async def hold_its_commit() -> None:
        if left.is_set() and not early:
            await asyncio.wait([asyncio.ensure_future(paid.wait())], timeout=0.2)
            early.append(paid.is_set())

    failpoints.arm("commit.before_commit", hold_its_commit)
    inner = StateGraph(State)
    inner.add_sequence([inner_first, inner_second])
    inner.add_edge(START, "inner_first")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    await transactional(outer.compile(checkpointer=saver)).ainvoke({"n": 0}, THREAD)
    assert (paid.is_set(), early) == (True, [False])


async def test_the_answer_a_human_was_shown_is_the_one_that_is_kept(
    savers: tuple[TransactionalSaver, TransactionalSaver],
) -> None:
    """A late worker must not store its own answer in the place of the answer that the thread goes on with."""
    paid = 0
    late_waits, late_may_store, late_has_stored = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def pay(_: OfflineRequest) -> str:
        nonlocal paid
        paid += 1
        return f"answer {paid}"

    async def advise(state: Any) -> Any:
        said = (await chat_model(offline=pay).ainvoke("what to do?")).content
        return {"seen": [said, interrupt(said)]}

    async def before_store() -> None:
        if not late_waits.is_set():
            late_waits.set()
            await late_may_store.wait()
        else:
            late_may_store.set()
            await asyncio.wait([late, asyncio.ensure_future(late_has_stored.wait())], return_when="FIRST_COMPLETED")

    async def stored() -> None:
        late_has_stored.set()

    failpoints.arm("memo.before_store", before_store)
    failpoints.arm("memo.stored", stored)
    first, second = (transactional(chain(saver, advise)) for saver in savers)
    late = asyncio.ensure_future(first.ainvoke({"seen": []}, THREAD))
    await late_waits.wait()
    shown = (await second.ainvoke(None, THREAD))["__interrupt__"][0].value
    with pytest.raises(StaleRun):
        await late
    assert (await second.ainvoke(Command(resume="yes"), THREAD))["seen"] == [shown, "yes"]


async def test_a_run_that_lost_its_thread_pays_for_no_more_answers(
    savers: tuple[TransactionalSaver, TransactionalSaver],
) -> None:
    asked: list[str] = []
    ready, go = asyncio.Event(), asyncio.Event()

    def pay(request: OfflineRequest) -> str:
        asked.append(request.text)
        return "answer"

    async def early(state: Any) -> Any:
        return {"n": 1}

    async def costly(state: Any) -> Any:
        if not ready.is_set():
            ready.set()
            await go.wait()
        await chat_model(offline=pay).ainvoke("something costly")
        return {"n": 2}

    first, second = (transactional(chain(saver, early, costly)) for saver in savers)
    late = asyncio.ensure_future(first.ainvoke({}, THREAD))
    await ready.wait()
    assert (await second.ainvoke(None, THREAD))["n"] == 2
    async with savers[1].transaction() as tx:  # so that the memo cannot be what saves the late one from paying
        await tx.execute("DELETE FROM runtime.llm_call")
    go.set()
    with pytest.raises(StaleRun):
        await late
    assert asked == ["something costly"]
