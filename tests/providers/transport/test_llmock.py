"""Storms of 429 and an outage against llmock, a mock of vendors by others: it knows the wires, and judges clients.

What it judges: whether a client waited as long as `retry-after` asked, backed off, and did not repeat what can never
succeed. Everything that needs finer control is tested against `tests.support.vendors`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from llmock.scenarios import Fail, Match, StreamFault
from llmock.testing import LLMockServer
from llmock.verdict import judge

from superstep.providers import RoutedChatModel
from superstep.providers.catalog.model import Breaker, Catalog, Deployment, Provider, Route
from superstep.providers.chat.service import Service
from superstep.providers.embeddings.remote import RemoteEmbedder
from superstep.providers.embeddings.settings import EmbeddingSettings
from superstep.runtime.faults import ProviderExhausted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from llmock.journal import RequestRecord

    Routed = Callable[..., RoutedChatModel]

BOTH: tuple[Provider, ...] = ("openai", "anthropic")


@pytest.fixture(scope="module")
def running() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture
def server(running: LLMockServer) -> LLMockServer:
    running.state.reset()
    return running


@pytest.fixture
async def route(server: LLMockServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Routed]:
    """Makes the model of a route over these providers in order; each makes `retries` further attempts."""
    monkeypatch.setenv("MOCK_KEY", "none")
    services: list[Service] = []

    def make(*providers: Provider, retries: int = 3) -> RoutedChatModel:
        deployments = tuple(
            Deployment(
                name=f"r/{provider}",
                provider=provider,
                model="m",
                api_key_env="MOCK_KEY",
                base_url=server.base_url(provider),
                retries=retries,
                breaker=Breaker(failures=5, cooldown=60.0),
            )
            for provider in providers or BOTH
        )
        services.append(Service(Catalog(routes={"r": Route(name="r", deployments=deployments)})))
        return RoutedChatModel(route="r", service=services[-1])

    yield make
    for service in services:
        await service.clients.aclose()


def records(server: LLMockServer) -> list[RequestRecord]:
    found: list[RequestRecord] = server.state.journal.records(wait=5.0)
    return found


def asked(server: LLMockServer, provider: str) -> list[int]:
    """The statuses that the provider answered with."""
    return [each.status for each in records(server) if each.provider == provider]


async def storm(model: RoutedChatModel, calls: int) -> list[str]:
    """Which deployment answered each of so many calls at once."""
    answers = await asyncio.gather(*(model.ainvoke(f"question {at}") for at in range(calls)))
    assert all(answer.text for answer in answers)
    return [answer.response_metadata["routing"]["deployment"] for answer in answers]


async def test_a_storm_of_429_is_sat_out(server: LLMockServer, route: Routed) -> None:
    server.state.scenarios.add(Fail(429, retry_after=0.3, times=4, match=Match(provider="openai")))
    assert await storm(route("openai"), 12) == ["r/openai"] * 12
    assert sorted(asked(server, "openai")) == [200] * 12 + [429] * 4
    judge(records(server)).assert_ok(strict=True)


async def test_a_storm_that_does_not_end_moves_on(server: LLMockServer, route: Routed) -> None:
    server.state.scenarios.add(Fail(429, retry_after=3600, times=None, match=Match(provider="openai")))
    served = await storm(route(), 12)
    assert served == ["r/anthropic"] * 12
    assert len(asked(server, "openai")) <= 12  # nobody came back before the hour
    judge(records(server)).assert_ok()


async def test_an_outage_is_left_alone_after_a_few_failures(server: LLMockServer, route: Routed) -> None:
    server.state.scenarios.add(Fail(500, times=None, match=Match(provider="openai")))
    model = route(retries=0)
    for at in range(12):
        answer = await model.ainvoke(f"question {at}")
        assert answer.response_metadata["routing"]["deployment"] == "r/anthropic"
    assert asked(server, "openai") == [500] * 5
    assert asked(server, "anthropic") == [200] * 12


async def test_everybody_is_down(server: LLMockServer, route: Routed) -> None:
    server.state.scenarios.add(Fail(500, times=None))
    with pytest.raises(ProviderExhausted) as caught:
        await route(retries=1).ainvoke("question")
    assert [each["deployment"] for each in caught.value.tried] == ["r/openai"] * 2 + ["r/anthropic"] * 2
    judge(records(server)).assert_ok()


async def test_what_can_never_succeed_is_not_repeated(server: LLMockServer, route: Routed) -> None:
    server.state.scenarios.add(Fail(401, times=None))
    with pytest.raises(ProviderExhausted):
        await route().ainvoke("question")
    assert asked(server, "openai") == [401]
    judge(records(server)).assert_ok(strict=True)


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
async def test_a_stream_that_breaks_is_never_taken_for_an_answer(
    server: LLMockServer, route: Routed, kind: Any
) -> None:
    server.state.scenarios.add(StreamFault(kind, after_chunks=3, times=None, match=Match(provider="openai")))
    with pytest.raises(ProviderExhausted):
        _ = [chunk async for chunk in route(retries=0).astream("Tell me a story of some length, please.")]
    assert len(records(server)) == 1


async def test_embeddings_sit_out_a_storm_too(server: LLMockServer) -> None:
    server.state.scenarios.add(Fail(429, retry_after=0.3, times=2))
    settings = EmbeddingSettings(
        name="mock", provider="openai-compatible", model="m", dimensions=1536, base_url=server.base_url("openai")
    )
    model = RemoteEmbedder(settings)
    try:
        vectors = await model.embed(["a", "b"])
    finally:
        await model.aclose()
    assert [len(vector) for vector in vectors] == [1536, 1536]
    assert asked(server, "openai") == [429, 429, 200]
    judge(records(server)).assert_ok(strict=True)
