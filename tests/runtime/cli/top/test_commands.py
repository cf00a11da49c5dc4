"""`runtime top`: what goes on, for people and as JSON; and what is asked for it."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from superstep import chat_model, current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.cli.render import console
from superstep.runtime.cli.top import views
from superstep.runtime.cli.top.commands import top
from tests.support.bank import BALANCE, DEBIT, Bank, make_bank
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.commands import Runtime

GRAPH = "graph-of-a-name-that-is-quite-long-indeed"


@asynccontextmanager
async def busy(saver: TransactionalSaver, thread: str) -> AsyncIterator[None]:
    """A flow whose first super-step had a conflict and asked a model, and whose second one goes on meanwhile."""
    started, go_on, left = asyncio.Event(), asyncio.Event(), [1]
    bank = Bank(saver)

    async def first(state: State) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        await chat_model("fast").ainvoke("hello")
        if left[0]:
            left[0] -= 1
            await bank.set(balance - 1)
        step.stage(DEBIT, 1)
        return {"n": 1}

    async def second(state: State) -> Any:
        started.set()
        await go_on.wait()
        return {"n": 2}

    flow = transactional(chain(saver, first, second), name=GRAPH)
    run = asyncio.create_task(flow.ainvoke({"n": 0}, {"configurable": {"thread_id": thread}}))
    await started.wait()
    try:
        yield
    finally:
        go_on.set()
        await run


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await make_bank(saver)
        yield saver


async def test_what_goes_on(saver: TransactionalSaver) -> None:
    async with busy(saver, "t-1"):
        found = await saver.aactivity()
    (running,) = found.running
    assert (running.thread_id, running.graph, running.step, running.attempts) == ("t-1", GRAPH, 2, 1)
    assert 0 <= running.step_seconds <= running.run_seconds
    assert (found.steps, found.conflicts, found.drifts, found.more_running) == (1, 1, 1, False)
    assert (found.calls_minute, found.calls_hour, found.usd_minute, found.usd_hour) == (1, 1, 0, 0)
    assert found.tokens_hour > 0
    after = await saver.aactivity()
    assert (after.running, after.steps) == ([], 2)


async def test_a_super_step_that_is_tried_again(saver: TransactionalSaver) -> None:
    started, go_on, left = asyncio.Event(), asyncio.Event(), [1]

    async def node(state: State) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if left[0]:
            left[0] -= 1
            await Bank(saver).set(balance - 1)
            step.stage(DEBIT, 1)
            return {"n": 1}
        started.set()
        await go_on.wait()
        return {"n": 2}

    run = asyncio.create_task(transactional(chain(saver, node)).ainvoke({"n": 0}, {"configurable": {"thread_id": "t"}}))
    await started.wait()
    found = await saver.aactivity()
    go_on.set()
    await run
    (running,) = found.running
    assert running.drifts == 1


async def test_only_so_many(saver: TransactionalSaver) -> None:
    async with busy(saver, "t-1"), busy(saver, "t-2"):
        found = await saver.aactivity(1)
    assert ([each.thread_id for each in found.running], found.more_running) == (["t-1"], True)


async def test_no_line_is_wider_than_80_characters(
    saver: TransactionalSaver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    async with busy(saver, "a-thread-with-an-id-that-is-much-too-long-for-its-column\x1b[31m"):
        found = await saver.aactivity()
    out = console()
    for each in views.lines(found, out):
        out.print(each)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert any("a-thread-with" in line for line in printed)
    assert max(map(len, printed)) <= 80, printed


def test_for_people(on_db: Runtime) -> None:
    done = on_db("top", "--once")
    assert done.code == 0, done.err
    assert "0 flows running" in done.out
    assert "0 conflicts" in done.out
    assert "no prices known" in done.out


def test_as_json(on_db: Runtime) -> None:
    found = on_db("top", "--once", "--json").json
    assert (found["running"], found["steps"], found["usd_hour"]) == ([], 0, None)


def test_json_of_what_never_ends_is_refused(on_db: Runtime) -> None:
    assert on_db("top", "--json").code == 2
    assert top.params


def test_it_is_refreshed_until_a_signal(start: Any, database_url: str) -> None:
    process = start("top", "--every", "0.2", "--db", database_url)
    heads = 0
    for line in process.stdout:
        heads += "flows running" in line
        if heads == 3:
            break
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + 15, err
    assert "Traceback" not in err
