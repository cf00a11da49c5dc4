"""The wire mapping that routes build on, against a real model: both SDKs, through the LangChain classes we use."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.local_llm.server import MODEL

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

pytestmark = pytest.mark.local_llm


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["glad", "sad"]
    words: int


# No connection is kept: it would outlive the event loop of its test.
OPTIONS: dict[str, Any] = {"api_key": "none", "max_retries": 0, "default_headers": {"connection": "close"}}


@pytest.fixture(params=["openai", "anthropic"])
def model(request: pytest.FixtureRequest, server: str) -> BaseChatModel:
    if request.param == "openai":
        return ChatOpenAI(model=MODEL, base_url=f"{server}/v1", max_tokens=24, stream_usage=True, **OPTIONS)
    return ChatAnthropic(model_name=MODEL, base_url=server, max_tokens=24, **OPTIONS)


async def test_an_answer(model: BaseChatModel) -> None:
    message = await model.ainvoke("Say hello.")
    assert message.text.strip()
    assert message.usage_metadata is not None
    assert 0 < message.usage_metadata["output_tokens"] <= 24
    assert message.usage_metadata["input_tokens"] > 0


async def test_a_stream(model: BaseChatModel) -> None:
    chunks = [chunk async for chunk in model.astream("Count to five.")]
    assert sum(1 for chunk in chunks if chunk.text) > 1
    message = functools.reduce(operator.add, chunks)
    assert message.text.strip()
    assert message.usage_metadata is not None
    assert 0 < message.usage_metadata["output_tokens"] <= 24


async def test_a_schema(server: str) -> None:
    model = ChatOpenAI(model=MODEL, base_url=f"{server}/v1", max_tokens=128, temperature=0, **OPTIONS)
    said = await model.with_structured_output(Mood, method="json_schema").ainvoke("The sun is out and I am happy.")
    assert isinstance(said, Mood)
