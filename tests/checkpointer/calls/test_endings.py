"""However a call ends, and whoever may answer it: it is recorded, charged, and held to budgets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.providers import chat_model
from superstep.providers.catalog.model import Budget, Catalog, Deployment, Price, Route
from superstep.providers.records.ports import Hooks, hooks
from superstep.providers.routing.budgets import Budgets
from superstep.providers.routing.router import Ask
from superstep.runtime.faults import BudgetExceeded, ProviderExhausted
from tests.checkpointer.calls.test_routed_calls import calls
from tests.checkpointer.calls.test_routed_calls import vendor as vendor
from tests.support.graphs import State, chain
from tests.support.vendors import Vendor, answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver

LONG = "twelve words that are said before the stream of this answer breaks"


async def recorded(saver: TransactionalSaver, thread: RunnableConfig, node: Any) -> list[dict[str, Any]]:
    await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    return await calls(saver, thread)


async def test_an_answer_that_no_memo_keeps_is_recorded_all_the_same(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    async def ask(state: State) -> State:
        await chat_model("r").model_copy(update={"cache": False}).ainvoke("ping")
        return {}

    (call,) = await recorded(saver, thread, ask)
    assert (call["outcome"], call["input_tokens"], call["usd"]) == ("answered", 7, 10.0)


async def test_a_stream_that_breaks_is_charged_for_what_it_said(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer(LONG).cut(after=8))

    async def ask(state: State) -> State:
        with pytest.raises(ProviderExhausted):
            async for _ in chat_model("r").astream("ping"):
                pass
        return {}

    (call,) = await recorded(saver, thread, ask)
    assert (call["outcome"], call["input_tokens"]) == ("failed", 1)
    assert call["output_tokens"] > 5
    assert call["usd"] == call["input_tokens"] + call["output_tokens"]


async def test_a_stream_that_nobody_reads_to_its_end_is_charged_too(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer(LONG).stall(after=8))

    async def ask(state: State) -> State:
        said = ""
        stream = chat_model("r").astream("ping")
        async for chunk in stream:
            said += chunk.text
            if said.count(" ") == 8:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return {}

    found: list[dict[str, Any]] = []
    await recorded(saver, thread, ask)
    async with asyncio.timeout(10):
        while not found:  # made in the background, so that who leaves need not wait
            found = await calls(saver, thread)
    assert found[0]["outcome"] == "failed"
    assert found[0]["error"] == "abandoned by the caller"
    assert found[0]["output_tokens"] > 5


# -- budgets -------------------------------------------------------------------------------------------------------


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
