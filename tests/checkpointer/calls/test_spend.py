"""What was spent by thread, run and route, and how far it is known."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer.calls.records import Spend, Spent, record_call, spent
from superstep.checkpointer.database import failpoints
from tests.checkpointer.calls.models import FAILED, CountingModel
from tests.support.graphs import State, chain, config_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank


pytestmark = pytest.mark.usefixtures("own_cache")


def costing(usd: float, tokens: int = 1, route: str | None = "strong") -> dict[str, Any]:
    return {"outcome": "answered", "model": "gpt", "usd": usd, "input_tokens": tokens, "route": route}


async def test_spend_counts_at_once_by_thread_run_and_route(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig]
) -> None:
    seen: list[Spent | None] = []

    async def decide(state: Any) -> Any:
        for usd in state["bag"]["costs"]:
            await record_call({**costing(usd, 10), "output_tokens": 1})
        await record_call({**costing(1000, 0, "other"), "usd": None})
        seen.append(await spent(route="strong"))

    first, second = new_thread(), new_thread()
    flow = transactional(chain(saver, decide))
    for config, costs in ((first, [0.5]), (second, [1]), (first, [2, 4]), (first, [])):
        await flow.ainvoke({"bag": {"costs": costs}}, config)
    name, other = (config["configurable"]["thread_id"] for config in (first, second))
    assert seen == [
        Spent(name, Spend(11, 0.5), Spend(11, 0.5), Spend(11, 0.5)),
        Spent(other, Spend(11, 1), Spend(11, 1), Spend(22, 1.5)),
        Spent(name, Spend(33, 6.5), Spend(22, 6), Spend(44, 7.5)),
        Spent(name, Spend(33, 6.5), Spend(0, 0), Spend(44, 7.5)),
    ]


async def test_spend_on_a_route_within_its_window(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    seen: list[Any] = []

    async def decide(state: Any) -> Any:
        await record_call(costing(1))
        await bank.do("UPDATE runtime.model_call SET created_at = now() - interval '1 hour'")
        await record_call(costing(2))
        for route, window in (("strong", 60), ("strong", 7200), ("strong", 1e300), ("strong", None), (None, None)):
            now = await spent(route=route, window=window)
            assert now is not None
            seen.append(now.route)

    await chain(saver, decide).ainvoke({"seen": []}, thread)
    assert seen == [Spend(1, 2), Spend(2, 3), Spend(2, 3), Spend(2, 3), Spend(0, 0)]


async def test_a_resume_continues_the_run(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    seen: list[Any] = []

    async def pay(state: Any) -> Any:
        await record_call(costing(1))

    async def ask(state: Any) -> Any:
        interrupt("?")
        seen.append(await spent())

    flow = transactional(chain(saver, pay, ask))
    await flow.ainvoke({"seen": []}, thread)
    await flow.ainvoke(Command(resume="fine"), thread)
    assert seen[0].run == Spend(1, 1)
    report = await flow.areport(thread)
    assert (report.usage["usd"], [step.usd for step in report.steps]) == (1, [1, 0])


async def test_spend_waits_for_the_input_of_its_run(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """LangGraph starts the first step while the input is being saved; the run before must not count as this one."""
    held, asked, known = asyncio.Event(), asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def pay(state: Any) -> Any:
        if held.is_set():
            asked.set()
            seen.append(await spent())
            known.set()
        await record_call(costing(1))

    async def hold() -> None:
        held.set()
        failpoints.disarm("commit.before_commit")
        await asked.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(known.wait(), 0.3)

    inner = chain(saver, pay)
    graph = chain(saver, inner_of(inner))
    await graph.ainvoke({"seen": []}, thread)
    failpoints.arm("commit.before_commit", hold)
    await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (seen[0].thread, seen[0].run) == (Spend(1, 1), Spend(0, 0))


def inner_of(graph: Any) -> Any:
    """A node that runs a graph as its subgraph."""

    async def nested(state: State) -> Any:
        await graph.ainvoke({"seen": []})

    return nested


OFFLINE = {"outcome": "answered", "model": "offline", "offline": True}
PRICED = {"outcome": "answered", "model": "gpt", "usd": 0.5}
UNPRICED = {"outcome": "answered", "model": "gpt", "usd": None}


@pytest.mark.parametrize(
    ("made", "usd", "offline"),
    [
        ([], 0, True),
        ([OFFLINE], 0, True),
        ([{**OFFLINE, "usd": 0.0}], 0, True),
        ([{"outcome": "answered", "model": "offline"}], 0, True),
        ([UNPRICED], None, False),
        ([PRICED, UNPRICED], 0.5, False),
        ([{**OFFLINE, "usd": 0.0}, UNPRICED], None, False),
        ([OFFLINE, PRICED], 0.5, False),
        ([FAILED], 0, False),
        ([FAILED, OFFLINE], 0, False),
        ([{"outcome": "answered", "model": None}], None, False),
    ],
)
async def test_cost_is_known_as_far_as_prices_are(
    saver: TransactionalSaver, thread: RunnableConfig, made: list[Any], usd: float | None, offline: bool
) -> None:
    async def decide(state: Any) -> Any:
        for call in made:
            await record_call(call)

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    report = await flow.areport(thread)
    assert (report.usage["usd"], report.usage["offline"], report.steps[0].usd) == (usd, offline, usd)


async def test_a_copy_shows_what_was_paid_but_costs_its_route_nothing(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel
) -> None:
    seen: list[Any] = []

    async def decide(state: Any) -> Any:
        if state["n"]:
            await routed.ainvoke("well?")
        seen.append(await spent(route="strong"))

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"n": 1}, thread)
    await saver.acopy_thread(thread["configurable"]["thread_id"], "copy")
    copied = config_of("copy")
    original, copy = await flow.areport(thread), await flow.areport(copied)
    assert copy.steps == original.steps
    assert copy.usage == original.usage
    await flow.ainvoke({"n": 0}, copied)
    assert (seen[-1].thread, seen[-1].route) == (Spend(24, 0.25), Spend(24, 0.25))
