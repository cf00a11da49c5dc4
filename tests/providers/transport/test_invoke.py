"""One deployment asked: refusals, ends of streams, and limits that bound the provider alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from superstep.providers.catalog.model import Route
from superstep.providers.policy.failures import StreamCut, TooSlow
from superstep.providers.transport.invoke import OpenedStream
from tests.support.routes import lookup, record, whole
from tests.support.vendors import answer, call, refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from superstep.providers.catalog.model import Deployment
    from tests.support.routes import Bed
    from tests.support.vendors import Act


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


SAID = answer("the sea is calm", usage=(11, 5))
ENDED: dict[str, tuple[str, Act]] = {
    "Anthropic, connection left open": ("anthropic", SAID.linger()),
    "Anthropic, without its last event": ("anthropic", SAID.linger(without=1)),
    "Anthropic, connection dropped": ("anthropic", SAID.drop()),
    "Anthropic, a call of a tool": ("anthropic", call("lookup", {"key": "k"}, usage=(11, 5)).linger()),
    "OpenAI, without its last event": ("openai", SAID.linger(without=1)),
    "OpenAI, connection dropped": ("openai", SAID.drop(without=1)),
}


@pytest.mark.parametrize(("vendor", "act"), ENDED.values(), ids=ENDED.keys())
async def test_a_stream_that_has_ended_is_ended(bed: Bed, vendor: str, act: Act) -> None:
    """Whatever becomes of its connection, and long before the time for the whole of it is over."""
    asked = bed.openai() if vendor == "openai" else bed.anthropic()
    (bed.first if vendor == "openai" else bed.second).always(act)
    async with asyncio.timeout(10):  # half of the deployment's timeout
        message = await whole(bed.model(asked).bind_tools([lookup]))
    assert (message.text, [each["name"] for each in message.tool_calls]) in (
        ("the sea is calm", []),
        ("", ["lookup"]),
    )
    said = record(message)
    assert (said["tried"], said["input_tokens"], said["output_tokens"]) == ([], 11, 5)
    assert bed.service is not None
    assert all(state.health.in_flight == 0 for state in bed.service.router.states.values())


async def test_an_end_that_is_not_followed_by_a_count_is_estimated(bed: Bed) -> None:
    bed.first.always(SAID.linger(without=2))
    async with asyncio.timeout(10):
        message = await whole(bed.model(bed.openai()))
    assert (message.text, record(message)["output_tokens"]) == ("the sea is calm", 4)


async def test_an_end_counts_although_no_time_is_left(bed: Bed) -> None:
    async def chunks() -> AsyncGenerator[ChatGenerationChunk, None]:
        yield said("one ")
        await asyncio.sleep(0.15)
        yield said("two", finish_reason="stop")
        await asyncio.Event().wait()

    stream = opened(bed.openai(timeout=0.2, token_timeout=0.19), chunks())
    await stream.start()
    assert [chunk.text async for chunk in stream.chunks()] == ["one ", "two"]


async def test_a_class_of_langchain_s_says_nothing_by_a_reason_in_the_middle(bed: Bed) -> None:
    """Some name one with every chunk."""

    async def chunks() -> AsyncGenerator[ChatGenerationChunk, None]:
        yield said("one ", finish_reason="STOP")
        await asyncio.sleep(2.2)
        yield said("two", finish_reason="STOP")

    stream = opened(replace(bed.openai(), provider="langchain"), chunks())
    await stream.start()
    assert [chunk.text async for chunk in stream.chunks()] == ["one ", "two"]
