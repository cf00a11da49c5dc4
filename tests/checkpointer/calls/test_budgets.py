"""Calls are held to budgets, also those under way at the same time."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.providers import chat_model
from superstep.providers.catalog.model import Budget, Catalog, Deployment, Hedge, Price, Route
from superstep.providers.records.ports import Hooks, hooks
from superstep.providers.routing.budgets import Budgets
from superstep.providers.routing.router import Ask
from superstep.runtime.faults import BudgetExceeded
from tests.checkpointer.calls.vendor import use
from tests.support.graphs import State, chain, fan
from tests.support.vendors import Vendor, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


BUDGETS: list[tuple[str, dict[str, Any]]] = [
    ("run", {"run_budget": Budget(tokens=25)}),
    ("run", {"run_budget": Budget(usd=25.0)}),
    ("thread", {"thread_budget": Budget(tokens=25)}),
    ("route", {"route": {"budget": Budget(usd=25.0, window=3600.0)}}),
]


@pytest.mark.parametrize(("scope", "budget"), BUDGETS, ids=[f"{scope}-{at}" for at, (scope, _) in enumerate(BUDGETS)])
async def test_a_budget_stops_the_call_and_a_larger_one_lets_the_thread_go_on(
    scope: str, budget: dict[str, Any], saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    """Ten tokens, ten dollars a call: the third one would go over. Its step is not committed, the others are."""
    use(vendor, **budget)

    async def first(state: State) -> State:
        for question in ("a", "b"):
            await chat_model("r").ainvoke(question)
        return {"seen": ["first"]}

    async def second(state: State) -> State:
        await chat_model("r").ainvoke("c, which is asked in so many words that it would exceed what is left")
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    with pytest.raises(BudgetExceeded, match="would exceed its budget") as caught:
        await flow.ainvoke({"seen": []}, thread)
    assert caught.value.scope == scope
    assert vendor.count == 2
    report = await flow.areport(thread)
    assert (report.status, report.values["seen"]) == ("failed", ["first"])
    use(vendor)
    out = await flow.ainvoke(None, thread)
    assert out["seen"] == ["first", "second"]
    assert vendor.count == 3


async def test_parallel_calls_do_not_each_find_the_same_rest(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    """Two tasks at once, each within the budget alone: what one is about to spend is reserved."""
    use(vendor, run_budget=Budget(tokens=30))
    gate = threading.Event()
    vendor.always(answer("pong").stall(until=gate))

    def asking(name: str) -> Callable[[State], Any]:
        async def ask(state: State) -> State:
            try:
                await chat_model("r", max_tokens=20).ainvoke(f"{name}?")
            except BudgetExceeded:
                gate.set()
                return {"seen": ["refused"]}
            return {"seen": ["answered"]}

        ask.__name__ = name
        return ask

    out = await transactional(fan(saver, asking("a"), asking("b"))).ainvoke({"seen": []}, thread)
    assert sorted(out["seen"]) == ["answered", "refused"]
    assert vendor.count == 1


class Amount:
    """What was spent."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.usd = float(tokens)


class Books:
    """A thread's spend; `before_answering` runs while somebody asks for it."""

    thread_id = "t"

    def __init__(self) -> None:
        self.spent = 0
        self.before_answering: Any = None

    async def asked(self, route: str, window: float | None) -> Any:
        seen = self.spent
        if self.before_answering is not None:
            act, self.before_answering = self.before_answering, None
            act()
        return _spent(seen)


def _spent(tokens: int) -> Any:
    class Found:
        thread_id = "t"
        run = thread = route = Amount(tokens)

    return Found()


@pytest.fixture
def books() -> Iterator[Books]:
    before, made = hooks(), Books()
    hooks(Hooks(spent=made.asked))
    yield made
    hooks(before)


def deployment(name: str, price: float, **parameters: Any) -> Deployment:
    return Deployment(
        name=name, provider="openai", model="m", price=Price(price, price), parameters=parameters, retries=0
    )


def dollars(each: Deployment, asked: int, given: int) -> float | None:
    assert each.price is not None
    return (asked + given) * each.price.input


async def test_a_call_that_ends_while_another_asks_what_was_spent_is_not_lost(books: Books) -> None:
    """Its spend is recorded, and its reservation released, after the other one's question and before its check."""
    budgets = Budgets(
        Catalog(routes={"r": Route(name="r", deployments=(deployment("a", 1),))}, run_budget=Budget(usd=15))
    )
    first = await budgets.reserve(Ask("r", input_tokens=10), dollars)

    def ends() -> None:
        books.spent += 10
        first.release()

    books.before_answering = ends
    with pytest.raises(BudgetExceeded, match="10 USD are spent"):
        await budgets.reserve(Ask("r", input_tokens=10), dollars)


async def test_whoever_can_be_reached_counts_with_its_price_and_its_limit(books: Books) -> None:
    dear = Route(name="dear", deployments=(deployment("b", 100, max_tokens=5),))
    cheap = Route(name="r", deployments=(deployment("a", 1),), fallbacks=("dear",))
    budgets = Budgets(Catalog(routes={"r": cheap, "dear": dear}, run_budget=Budget(usd=599)))
    with pytest.raises(BudgetExceeded, match="may cost 600 USD"):
        await budgets.reserve(Ask("r", input_tokens=1), dollars)


# -- calls that nothing limits


ONE = answer("pong", usage=(7, 3))  # ten tokens, ten dollars


async def ask_whole() -> None:
    await chat_model("r").ainvoke("hi")


async def ask_stream() -> None:
    async for _ in chat_model("r").astream("hi"):
        pass


async def ask_in_a_thread() -> None:
    await asyncio.to_thread(chat_model("r").invoke, "hi")


async def ask_a_stream_in_a_thread() -> None:
    await asyncio.to_thread(lambda: list(chat_model("r").stream("hi")))


WAYS = [ask_whole, ask_stream, ask_in_a_thread, ask_a_stream_in_a_thread]


async def parallel(
    saver: TransactionalSaver, thread: RunnableConfig, ask: Callable[[], Any], calls: int
) -> tuple[int, float]:
    """So many calls at once in one node: how many were answered, and what the run has cost."""
    answered = 0

    async def one() -> None:
        nonlocal answered
        try:
            await ask()
            answered += 1
        except BudgetExceeded:
            pass

    async def node(state: State) -> State:
        await asyncio.gather(*(one() for _ in range(calls)))
        return {"seen": ["done"]}

    flow = transactional(chain(saver, node))
    await flow.ainvoke({"seen": []}, thread)
    return answered, (await flow.areport(thread)).usage["usd"]


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize(
    "budget", [each for _, each in BUDGETS], ids=[f"{s}-{at}" for at, (s, _) in enumerate(BUDGETS)]
)
async def test_parallel_calls_without_a_limit_keep_to_a_budget(
    budget: dict[str, Any], ask: Callable[[], Any], saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    """One goes ahead; then it is known what they take: two fit, and the others are refused."""
    vendor.always(ONE.slow(first_byte=0.05))
    use(vendor, **budget)
    assert await parallel(saver, thread, ask, 12) == (2, 20.0)
    assert vendor.count == 2


async def test_one_call_may_exceed_a_budget_that_is_too_small_for_it_but_no_second(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer("pong", usage=(7, 1000)).slow(first_byte=0.05))
    use(vendor, run_budget=Budget(usd=3.0))
    assert await parallel(saver, thread, ask_whole, 20) == (1, 1007.0)


async def test_what_fits_is_used_up(saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor) -> None:
    vendor.always(ONE.slow(first_byte=0.02))
    use(vendor, run_budget=Budget(usd=155.0))
    assert await parallel(saver, thread, ask_whole, 40) == (15, 150.0)


async def test_where_the_most_that_models_write_fits_nobody_waits(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    gate = threading.Event()
    vendor.always(ONE.stall(until=gate))
    use(vendor, run_budget=Budget(tokens=10**8))
    running = asyncio.create_task(parallel(saver, thread, ask_whole, 8))
    await vendor.until(lambda: vendor.count == 8)
    gate.set()
    assert await running == (8, 80.0)


async def test_who_reads_a_stream_and_asks_meanwhile_does_not_wait_for_itself(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer("one two", usage=(7, 3)))
    use(vendor, run_budget=Budget(usd=1000.0))

    async def node(state: State) -> State:
        async for _ in chat_model("r").astream("hi"):
            await asyncio.gather(chat_model("r").ainvoke("a"), chat_model("r").ainvoke("b"))
        return {"seen": ["done"]}

    async with asyncio.timeout(30):
        out = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert out["seen"] == ["done"]


def one_of(**more: Any) -> Budgets:
    route = Route(name="r", deployments=(replace(deployment("a", 1), **more),), patience=0.0)
    return Budgets(Catalog(routes={"r": route}, run_budget=Budget(usd=1000)))


async def test_a_wait_for_calls_in_flight_ends(books: Books) -> None:
    budgets = one_of(timeout=0.1)
    held = await budgets.reserve(Ask("r", input_tokens=10), dollars)
    with pytest.raises(
        BudgetExceeded, match=r"in flight that have no max_tokens \(1\) .* none of them has ended meanwhile"
    ):
        await budgets.reserve(Ask("r", input_tokens=10), dollars)
    held.release()
    (await budgets.reserve(Ask("r", input_tokens=10), dollars)).release()


async def test_who_gives_up_waiting_passes_it_on(books: Books) -> None:
    budgets = one_of()
    held = await budgets.reserve(Ask("r"), dollars)
    waiting = [asyncio.create_task(budgets.reserve(Ask("r"), dollars)) for _ in range(3)]
    await asyncio.sleep(0)  # they stand in line, in this order
    held.release()
    waiting[0].cancel()
    for each in waiting[1:]:
        async with asyncio.timeout(10):
            (await each).release()


async def test_a_call_with_a_limit_does_not_wait(books: Books) -> None:
    budgets = one_of()
    await budgets.reserve(Ask("r"), dollars)
    await budgets.reserve(Ask("r", output_tokens=900), dollars)
    with pytest.raises(BudgetExceeded, match="900 USD reserved"):
        await budgets.reserve(Ask("r", output_tokens=900), dollars)


async def test_a_second_attempt_is_reserved_too(books: Books) -> None:
    hedging = Route(name="r", deployments=(deployment("a", 1), deployment("b", 1)), hedge=Hedge(after=1.0))
    budgets = Budgets(Catalog(routes={"r": hedging}, run_budget=Budget(usd=199)))
    with pytest.raises(BudgetExceeded, match="may cost 200 USD"):
        await budgets.reserve(Ask("r", output_tokens=100), dollars)
