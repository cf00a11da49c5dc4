"""When things began and how long they took, in the cases where the two are not known at once."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.commit.barrier import Barrier
from superstep.runtime.telemetry.runs import RunTrace
from tests.runtime.telemetry.conftest import measured
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from langchain_core.runnables import RunnableConfig
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans
    from tests.support.bank import Bank


async def plain(state: Any) -> Any:
    return {"n": 1}


async def drawing(state: Any) -> Any:
    step = current_step()
    await step.fetchval(BALANCE, 1)
    step.stage(DEBIT, 1)
    return {"n": 1}


async def test_a_commit_that_ends_after_its_run_is_measured(
    saver: TransactionalSaver,
    bank: Bank,
    new_thread: Callable[[], RunnableConfig],
    spans: Spans,
    measures: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller is gone; what is under way is committed all the same."""
    commit, begun, go_on, ended = Barrier.commit, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(self: Barrier) -> None:
        if self.ends_step and self.nodes:
            begun.set()
            await go_on.wait()
        await commit(self)
        if self.ends_step and self.nodes:
            ended.set()

    monkeypatch.setattr(Barrier, "commit", slow)
    running = asyncio.create_task(transactional(chain(saver, drawing)).ainvoke({"n": 0}, new_thread()))
    await begun.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=1)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({running})
    await ended.wait()
    for _ in range(100):  # what ends the commit's task, and nothing that waits
        await asyncio.sleep(0)
    assert len(spans.named("commit")) == 1
    assert sum(point.count for point in measured(measures)["superstep.commit.duration"]) == 1


async def test_a_clock_that_is_set_changes_no_duration(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    spans: Spans,
    measures: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, hours = time.time_ns, 0

    async def node(state: Any) -> Any:
        nonlocal hours
        await current_step().fetchval(BALANCE, 1)
        hours += 1
        return {"n": 1}

    monkeypatch.setattr(time, "time_ns", lambda: real() + hours * 3600 * 10**9)
    await transactional(chain(saver, plain, node, drawing)).ainvoke({"n": 0}, thread)
    points = measured(measures)["superstep.step.duration"]
    assert sum(point.count for point in points) == 3
    assert max(point.max for point in points) < 3000


async def test_a_super_step_begins_before_those_of_the_subgraph_in_it_end(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Barrier.commit
    seen: list[int] = []

    async def noted(self: Barrier) -> None:
        if self.ns and self.nodes:
            seen.append(time.time_ns())
        await commit(self)

    monkeypatch.setattr(Barrier, "commit", noted)
    subgraph = chain(None, plain)

    async def outer(state: Any) -> Any:
        return {"n": (await subgraph.ainvoke({"n": 0}))["n"]}

    await transactional(chain(saver, outer)).ainvoke({"n": 0}, thread)
    (before_commit,) = seen
    assert (spans.one("superstep outer").start_time or 0) <= before_commit


async def test_what_a_run_has_had_goes_with_it(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig], spans: Spans
) -> None:
    flow = transactional(chain(saver, plain))
    for _ in range(20):
        await flow.ainvoke({"n": 0}, new_thread())
    await asyncio.sleep(0)
    gc.collect()
    assert sum(isinstance(each, RunTrace) for each in gc.get_objects()) <= 2
