"""Two vendors on loopback, a service that routes between them, and what tests ask of it and look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel

from superstep.providers import RoutedChatModel
from superstep.providers.catalog.model import Breaker, Catalog, Deployment, Price, Route
from superstep.providers.chat.service import Service
from tests.support.vendors import Vendor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.messages import AIMessage, AIMessageChunk

    from superstep.providers.catalog.model import Provider

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def first() -> Iterator[Vendor]:
    """Speaks OpenAI's protocol in these tests."""
    with Vendor() as vendor:
        yield vendor


@pytest.fixture
def second() -> Iterator[Vendor]:
    """Speaks Anthropic's."""
    with Vendor() as vendor:
        yield vendor


@pytest.fixture
def bed(first: Vendor, second: Vendor, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setenv("FIRST_KEY", KEY)
    monkeypatch.setenv("SECOND_KEY", KEY)
    return Bed(first, second)


class Bed:
    """Makes deployments of the two vendors, and models of routes over them."""

    def __init__(self, first: Vendor, second: Vendor) -> None:
        self.first = first
        self.second = second
        self.service: Service | None = None

    def openai(self, name: str = "openai", **more: Any) -> Deployment:
        """Of the first vendor, in OpenAI's protocol."""
        return self._deployment(name, "openai-compatible", "m-1", "FIRST_KEY", self.first.openai_url, 1.0, more)

    def anthropic(self, name: str = "anthropic", **more: Any) -> Deployment:
        """Of the second vendor, in Anthropic's protocol; ten times the price."""
        return self._deployment(name, "anthropic", "m-2", "SECOND_KEY", self.second.url, 10.0, more)

    def _deployment(
        self, name: str, provider: Provider, model: str, variable: str, url: str, price: float, more: dict[str, Any]
    ) -> Deployment:
        options = {"retries": 0, "timeout": 20.0, "price": Price(price, 2 * price), **more}
        return Deployment(
            name=f"r/{name}", provider=provider, model=model, api_key_env=variable, base_url=url, **options
        )

    def model(self, *deployments: Deployment, others: tuple[Route, ...] = (), **route: Any) -> RoutedChatModel:
        """The model of route "r" over these deployments; by default over both vendors, in order."""
        served = deployments or (self.openai(), self.anthropic())
        main = Route(name="r", deployments=served, **route)
        self.service = Service(Catalog(routes={"r": main, **{other.name: other for other in others}}))
        return RoutedChatModel(route="r", service=self.service)


def quick() -> Breaker:
    """Opens at the first failure."""
    return Breaker(failures=1, cooldown=60.0)


class Verdict(BaseModel):
    """A verdict."""

    outcome: str
    amount: int


@tool
def lookup(key: str) -> str:
    """Look a key up."""
    return key


def record(message: AIMessage) -> dict[str, Any]:
    """The record that an answer carries."""
    found: dict[str, Any] = message.response_metadata["routing"]
    return found


def whys(message: AIMessage) -> list[tuple[str, str]]:
    """The deployments that were left before the answer, and why."""
    return [(tried["deployment"], tried["why"]) for tried in record(message)["tried"]]


async def collected(stream: AsyncIterator[AIMessageChunk]) -> tuple[list[str], AIMessageChunk]:
    """The texts of a stream as they came, and all of it in one message."""
    chunks = [chunk async for chunk in stream]
    return [chunk.text for chunk in chunks if chunk.text], sum(chunks[1:], start=chunks[0])  # type: ignore[return-value]


async def whole(model: Any) -> AIMessageChunk:
    """The answer of a stream, in one message."""
    return (await collected(model.astream("ping")))[1]
