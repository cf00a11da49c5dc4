"""Routes over a real model, by both protocols: answers, streams, a schema, and a failover from a dead port."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from superstep.providers import chat_model, configure, current_service
from superstep.providers.catalog.parse import parse_models
from tests.local_llm.server import MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.messages import AIMessage

pytestmark = pytest.mark.local_llm


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["glad", "sad"]
    words: int


@pytest.fixture
async def _routes(server: str, dead_server: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")  # the provider needs one; the server does not look
    dead = {"provider": "openai-compatible", "model": MODEL, "base_url": f"{dead_server}/v1", "retries": 0}
    openai = {**dead, "base_url": f"{server}/v1"}
    anthropic = {"provider": "anthropic", "model": MODEL, "base_url": server}
    tables: dict[str, Any] = {
        "openai": {"deployments": [openai | {"parameters": {"max_tokens": 128, "temperature": 0}}]},
        "anthropic": {"deployments": [anthropic | {"parameters": {"max_tokens": 24}}]},
        "failing": {"deployments": [dead, openai | {"parameters": {"max_tokens": 24}}]},
        "fallback": {"deployments": [dead], "fallbacks": ["anthropic"]},
    }
    configure(parse_models(tables, {}, {}, place=lambda path: ".".join(map(str, path))))
    yield
    await current_service().clients.aclose()
    configure(None)


def record(message: AIMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["routing"]
    return found


@pytest.mark.usefixtures("_routes")
@pytest.mark.parametrize("route", ["openai", "anthropic"])
async def test_an_answer(route: str) -> None:
    message = await chat_model(route).ainvoke("Say hello.")
    assert message.text.strip()
    found = record(message)
    assert (found["outcome"], found["route"], found["model"], found["tried"]) == ("answered", route, MODEL, [])
    assert found["deployment"].startswith(f"{route}/")
    assert 0 < found["output_tokens"] <= 128
    assert found["input_tokens"] > 0


@pytest.mark.usefixtures("_routes")
@pytest.mark.parametrize("route", ["openai", "anthropic"])
async def test_a_stream(route: str) -> None:
    chunks = [chunk async for chunk in chat_model(route).astream("Count to five.")]
    assert sum(1 for chunk in chunks if chunk.text) > 1
    message = functools.reduce(operator.add, chunks)
    found = record(message)
    assert 0 < found["first_token_ms"] <= found["ms"]
    assert found["output_tokens"] > 0


@pytest.mark.usefixtures("_routes")
async def test_a_schema() -> None:
    model = chat_model("openai").with_structured_output(Mood, method="json_schema")
    said = await model.ainvoke("The sun is out and I am happy.")
    assert isinstance(said, Mood)


@pytest.mark.usefixtures("_routes")
@pytest.mark.parametrize(("route", "answering"), [("failing", "failing/"), ("fallback", "anthropic/")])
async def test_a_dead_port_is_left_for_the_living(route: str, answering: str) -> None:
    message = await chat_model(route).ainvoke("Say hello.")
    assert message.text.strip()
    found = record(message)
    assert found["deployment"].startswith(answering)
    assert [(tried["why"], tried["status"]) for tried in found["tried"]] == [("connection failed", None)]
