"""Answers that are no whole answers, limits that bound the provider alone, and the model that says it answered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel

from superstep.providers.catalog.model import Route
from superstep.providers.policy.failures import StreamCut, TooSlow
from superstep.providers.transport.invoke import OpenedStream
from superstep.providers.transport.structured import read_value
from superstep.runtime.faults import ProviderExhausted
from tests.support.vendors import answer, raw, refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from superstep.providers.catalog.model import Deployment
    from tests.support.routes import Bed

_CUT = '{"outcome": "approve", "amount": 12'


class Verdict(BaseModel):
    """A verdict."""

    outcome: str
    amount: int


async def whole(model: Any) -> AIMessageChunk:
    chunks = [chunk async for chunk in model.astream("ping")]
    return sum(chunks[1:], start=chunks[0])


# -- cut values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_half_a_text_is_no_value(vendor: str, streamed: bool, bed: Bed) -> None:
    for each in (bed.first, bed.second):
        each.always(answer(_CUT, finish="length"))
    deployment = bed.openai() if vendor == "openai" else bed.anthropic()
    model = bed.model(deployment).with_structured_output(Verdict, method="json_schema")
    # OpenAI's own SDK refuses a cut answer to a schema before anybody reads it.
    with pytest.raises((OutputParserException, ProviderExhausted)):
        await (whole(model) if streamed else model.ainvoke("ping"))


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_half_a_tool_call_is_no_value(finish: str, bed: Bed) -> None:
    """LangChain completes the arguments of a streamed call from what there is."""

    def event(delta: dict[str, Any], why: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": why}
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "Verdict", "arguments": _CUT}}
    body = event({"role": "assistant", "tool_calls": [call]}) + event({}, finish) + b"data: [DONE]\n\n"
    bed.first.always(raw(body, content_type="text/event-stream"))
    model = bed.model(bed.openai()).with_structured_output(Verdict, method="function_calling")
    with pytest.raises(OutputParserException):
        await whole(model)


@pytest.mark.parametrize("text", [_CUT, f"```json\n{_CUT}\n```", "I approve."])
def test_json_is_never_completed(text: str) -> None:
    with pytest.raises(OutputParserException, match="no value of Verdict"):
        read_value(AIMessage(text), "Verdict", Verdict)


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "```\n{}\n```\n"])
def test_a_value_may_stand_in_a_code_fence(around: str) -> None:
    text = around.replace("{}", _CUT + "}")
    assert read_value(AIMessage(text), "Verdict", Verdict) == Verdict(outcome="approve", amount=12)


# -- refusals and ends of streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_refused_stream_goes_to_the_content_fallbacks(vendor: str, bed: Bed) -> None:
    asked, other = (bed.openai(), bed.anthropic()) if vendor == "openai" else (bed.anthropic(), bed.openai())
    (bed.first if vendor == "openai" else bed.second).always(refused())
    lenient = Route(name="lenient", deployments=(other,))
    message = await whole(bed.model(asked, others=(lenient,), content_fallbacks=("lenient",)))
    assert message.text == "pong"
    assert [each["why"] for each in message.response_metadata["routing"]["tried"]] == ["content refused"]


async def test_a_refused_stream_is_an_answer_where_nobody_else_is_there(bed: Bed) -> None:
    bed.first.always(refused())
    message = await whole(bed.model(bed.openai()))
    assert (message.text, message.response_metadata["finish_reason"]) == ("", "content_filter")


# -- limits --------------------------------------------------------------------------------------------------------


def opened(deployment: Deployment, chunks: AsyncGenerator[ChatGenerationChunk, None]) -> OpenedStream:
    return OpenedStream(deployment, chunks)


def said(text: str, **told: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(text, response_metadata=told))


async def test_empty_chunks_do_not_put_the_first_token_off(bed: Bed) -> None:
    async def chunks() -> AsyncGenerator[ChatGenerationChunk, None]:
        while True:  # each well within the limit, for ever
            await asyncio.sleep(0.01)
            yield said("")

    stream = opened(bed.openai(first_token_timeout=0.1), chunks())
    with pytest.raises(TooSlow, match=r"no first token in 0\.1 s"):
        async with asyncio.timeout(30):
            await stream.start()
    await stream.aclose()


async def test_a_slow_reader_does_not_use_up_the_providers_time(bed: Bed) -> None:
    async def chunks() -> AsyncGenerator[ChatGenerationChunk, None]:
        yield said("one ")
        yield said("two")
        yield said("", finish_reason="stop")

    stream = opened(bed.openai(timeout=0.2), chunks())
    await stream.start()
    read = []
    async for chunk in stream.chunks():
        read.append(chunk.text)
        await asyncio.sleep(0.25)  # longer than the provider may take in all
    assert "".join(read) == "one two"


async def test_a_stream_left_early_is_closed_to_its_source(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.Event()

    async def endless(*_: Any, **__: Any) -> AsyncGenerator[ChatGenerationChunk, None]:
        try:
            while True:
                yield said("on and on ")
        finally:
            closed.set()

    monkeypatch.setattr("langchain_openai.ChatOpenAI._astream", endless)
    chunks = bed.model(bed.openai()).astream("ping")
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def test_a_stream_that_never_says_why_it_ended_was_cut(bed: Bed) -> None:
    async def chunks() -> AsyncGenerator[ChatGenerationChunk, None]:
        yield said("")

    with pytest.raises(StreamCut):
        await opened(bed.openai(), chunks()).start()


# -- the model that answered ---------------------------------------------------------------------------------------


class Unstreamed(BaseChatModel):
    """A model that cannot stream."""

    @property
    def _llm_type(self) -> str:
        return "unstreamed"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = AIMessage("pong", response_metadata={"model_name": "served-1"})
        return ChatResult(generations=[ChatGeneration(message=message)])


async def test_the_record_names_the_model_that_was_served(bed: Bed) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "pong"}}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "served-1", "choices": [choice]}
    bed.first.always(raw(json.dumps(body).encode()))
    message = await bed.model().ainvoke("ping")
    assert message.response_metadata["routing"]["model"] == "served-1"


async def test_the_record_names_the_model_that_cannot_stream(bed: Bed) -> None:
    path = f"{Unstreamed.__module__}:{Unstreamed.__name__}"
    deployment = replace(bed.openai(), provider="langchain", path=path, base_url=None, api_key_env=None, model="")
    message = await whole(bed.model(deployment))
    assert message.text == "pong"
    assert message.response_metadata["routing"]["model"] == "served-1"
    assert message.response_metadata["model_name"] == "served-1"
