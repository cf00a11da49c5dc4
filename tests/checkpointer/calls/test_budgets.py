"""Calls are held to budgets, also those under way at the same time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.providers import chat_model
from superstep.providers.catalog.model import Budget, Catalog, Deployment, Price, Route
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
