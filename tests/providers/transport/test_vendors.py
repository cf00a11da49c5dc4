"""The vendors that other tests rely on: the real SDKs understand their answers, and see their faults as such."""

from __future__ import annotations

import asyncio
import functools
import operator
import socket
import threading
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from superstep.graphs.underwriting.decide import Proposal
from tests.support.routes import Verdict, lookup
from tests.support.vendors import (
    Act,
    Call,
    Vendor,
    answer,
    call,
    empty,
    hang_up,
    raw,
    refused,
    status,
    vector,
    vectors,
    vendor_process,
)
from tests.support.vendors.replies import underwriting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk

KEY = "sk-very-secret-0123456789"
VENDORS = ["openai", "anthropic"]
PING: Any = {"role": "user", "content": "ping"}


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as running:
        yield running


@pytest.fixture(params=VENDORS)
def model(request: pytest.FixtureRequest, vendor: Vendor) -> BaseChatModel:
    return chat(request.param, vendor.url)


def chat(kind: str, url: str) -> BaseChatModel:
    if kind == "openai":
        return ChatOpenAI(model="m", api_key=KEY, base_url=f"{url}/v1", max_retries=0, stream_usage=True)
    return ChatAnthropic(model_name="m", api_key=KEY, base_url=url, max_retries=0)


def sdk(kind: str, vendor: Vendor) -> Any:
    """A function that asks with the bare SDK."""
    asked: Any = {"model": "m", "messages": [PING]}
    if kind == "openai":
        client = openai.AsyncOpenAI(api_key=KEY, base_url=vendor.openai_url, max_retries=0)
        return lambda **more: client.chat.completions.create(**asked, **more)
    other = anthropic.AsyncAnthropic(api_key=KEY, base_url=vendor.url, max_retries=0)
    return lambda **more: other.messages.create(max_tokens=10, **asked, **more)


async def streamed(model: Any, parts: list[str] | None = None) -> AIMessageChunk:
    """The sum of a stream. The texts of its parts are added to `parts` as they come."""
    chunks: list[AIMessageChunk] = []
    async for chunk in model.astream("ping"):
        chunks.append(chunk)
        if parts is not None and chunk.text:
            parts.append(chunk.text)
    return functools.reduce(operator.add, chunks)


async def test_an_answer_in_one_piece(vendor: Vendor, model: BaseChatModel) -> None:
    vendor.script(answer("the sea is calm", usage=(11, 5)))
    message = await model.ainvoke("ping")
    assert message.text == "the sea is calm"
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (11, 5)
    [request] = vendor.requests
    assert (request.key, request.text, request.stream) == (KEY, "ping", False)
    await vendor.until(lambda: request.state == "answered")  # the vendor's thread notes it after its last byte is out


async def test_an_answer_in_tokens(vendor: Vendor, model: BaseChatModel) -> None:
    vendor.script(answer("the sea is calm", usage=(11, 5)))
    parts: list[str] = []
    message = await streamed(model, parts)
    assert parts == ["the ", "sea ", "is ", "calm"]
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (11, 5)
    assert vendor.requests[0].stream


async def test_tools_are_called(vendor: Vendor, model: BaseChatModel) -> None:
    offered = model.bind_tools([lookup])
    two = Act(calls=(Call("lookup", {"key": "a long enough argument"}), Call("lookup", {"key": "b"})))
    vendor.script(two, two, call("lookup", {"key": "c"}, text="looking"))
    whole = await offered.ainvoke("ping")
    parts = await streamed(offered)
    for message in (whole, parts):
        assert [found["args"]["key"] for found in message.tool_calls] == ["a long enough argument", "b"]
        assert len({found["id"] for found in message.tool_calls}) == 2
    assert (await offered.ainvoke("ping")).text == "looking"
    assert [each["name"] for each in vendor.requests[0].tools] == ["lookup"]


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
async def test_structured_output(vendor: Vendor, model: BaseChatModel, method: str) -> None:
    vendor.script(answer({"outcome": "approve", "amount": 5}))
    asking = model.with_structured_output(Verdict, method=method)
    assert await asking.ainvoke("ping") == Verdict(outcome="approve", amount=5)
    schema = vendor.requests[0].schema
    assert schema is not None
    assert set(schema["properties"]) == {"outcome", "amount"}


async def test_the_default_structured_output_names_its_schema(vendor: Vendor, model: BaseChatModel) -> None:
    vendor.script(answer({"outcome": "approve", "amount": 5}))
    assert await model.with_structured_output(Verdict).ainvoke("ping") == Verdict(outcome="approve", amount=5)
    assert vendor.requests[0].schema_name == "Verdict"


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
        (529, "InternalServerError"),
    ],
)
async def test_errors_by_status(vendor: Vendor, kind: str, number: int, error: str) -> None:
    vendor.script(status(number, retry_after=7, code="scripted_code", message="what {key} asked"))
    module: Any = openai if kind == "openai" else anthropic
    with pytest.raises(getattr(module, error)) as caught:
        await sdk(kind, vendor)()
    assert caught.value.status_code == number
    assert caught.value.response.headers["retry-after"] == "7"
    assert KEY in str(caught.value)
    body: Any = caught.value.body
    assert (body["code"] if kind == "openai" else body["error"]["type"]) == "scripted_code"


async def test_a_refusal(vendor: Vendor) -> None:
    vendor.script(refused(), refused(), refused(refusal="No."), answer(finish="length"))
    said = [(await sdk(kind, vendor)()).model_dump() for kind in ("openai", "anthropic", "openai", "anthropic")]
    assert said[0]["choices"][0]["finish_reason"] == "content_filter"
    assert said[1]["stop_reason"] == "refusal"
    assert said[2]["choices"][0]["message"]["refusal"] == "No."
    assert said[3]["stop_reason"] == "max_tokens"


async def test_nothing_in_an_answer(vendor: Vendor) -> None:
    vendor.script(empty(), empty())
    assert (await sdk("openai", vendor)()).choices == []
    assert (await sdk("anthropic", vendor)()).content == []


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize("act", [raw(), answer("a b c d").garble(), answer("a b c d").end()])
async def test_a_body_that_is_not_json(vendor: Vendor, kind: str, act: Act) -> None:
    vendor.script(act)
    with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated"):
        await sdk(kind, vendor)()


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize("act", [hang_up(), answer("a b").cut()])
async def test_a_connection_dropped_before_the_whole_answer(vendor: Vendor, kind: str, act: Act) -> None:
    vendor.script(act)
    module: Any = openai if kind == "openai" else anthropic
    with pytest.raises(module.APIConnectionError):
        await sdk(kind, vendor)()
    assert vendor.requests[0].state == "broken"


async def test_a_stream_cut_after_two_tokens(vendor: Vendor, model: BaseChatModel) -> None:
    vendor.script(answer("a b c d").cut(after=2))
    parts: list[str] = []
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        await streamed(model, parts)
    assert parts == ["a ", "b "]
    await vendor.until(lambda: vendor.requests[0].state == "broken")


async def test_a_stream_that_ends_early_has_no_finish_reason(vendor: Vendor) -> None:
    vendor.script(answer("a b c d").end(after=2), answer("a b c d").end(after=9))
    for parts in (2, 4):
        stream = await sdk("openai", vendor)(stream=True)
        choices = [chunk.choices[0] async for chunk in stream]
        assert sum(1 for choice in choices if choice.delta.content) == parts
        assert all(choice.finish_reason is None for choice in choices)


@pytest.mark.parametrize("kind", VENDORS)
async def test_a_stream_with_a_broken_event(vendor: Vendor, kind: str) -> None:
    vendor.script(answer("a b c d").garble(after=1))
    with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated"):
        _ = [event async for event in await sdk(kind, vendor)(stream=True)]


@pytest.mark.parametrize("kind", VENDORS)
async def test_a_stream_with_an_error_in_it(vendor: Vendor, kind: str) -> None:
    vendor.script(answer("a b c d").fail(after=1))
    module: Any = openai if kind == "openai" else anthropic
    with pytest.raises(module.APIError, match="scripted"):
        _ = [event async for event in await sdk(kind, vendor)(stream=True)]


async def test_a_stalled_stream_goes_on_when_told(vendor: Vendor, model: BaseChatModel) -> None:
    go = threading.Event()
    vendor.script(answer("a b c d").stall(after=2, until=go))
    parts: list[str] = []
    asked = asyncio.create_task(streamed(model, parts))
    await vendor.until(lambda: len(parts) == 2 and vendor.requests[0].state == "stalled")
    go.set()
    await asked
    assert parts == ["a ", "b ", "c ", "d"]


async def test_a_stalled_body_goes_on_when_told(vendor: Vendor, model: BaseChatModel) -> None:
    go = threading.Event()
    vendor.script(answer("late").stall(until=go))
    asked = asyncio.create_task(model.ainvoke("ping"))
    await vendor.until(lambda: vendor.count == 1 and vendor.requests[0].state == "stalled")
    assert not asked.done()
    go.set()
    assert (await asked).text == "late"


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_sees_a_client_that_hangs_up(vendor: Vendor, kind: str, stream: bool) -> None:
    vendor.script(answer("a b c d").stall(after=1))
    model = chat(kind, vendor.url)
    parts: list[str] = []
    asked: Any = asyncio.create_task(streamed(model, parts) if stream else asked_once(model))
    await vendor.until(lambda: bool(vendor.count and vendor.requests[0].state == "stalled" and (parts or not stream)))
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await vendor.until(lambda: vendor.requests[0].state == "gone")


async def asked_once(model: BaseChatModel) -> str:
    return (await model.ainvoke("ping")).text


async def test_slow_is_slower_than_a_client_waits(vendor: Vendor) -> None:
    vendor.script(answer().slow(first_byte=30), answer("a b").slow(first_token=30))
    with pytest.raises(openai.APITimeoutError):
        await sdk("openai", vendor)(timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        _ = [chunk async for chunk in await sdk("openai", vendor)(stream=True, timeout=0.2)]


async def test_killed_in_the_middle_and_revived(vendor: Vendor, model: BaseChatModel) -> None:
    vendor.script(answer("a b c d").stall(after=1))
    asked = asyncio.create_task(streamed(model))
    await vendor.until(lambda: vendor.count == 1 and vendor.requests[0].state == "stalled")
    port = vendor.port
    vendor.kill()
    with pytest.raises(Exception, match=r"."):
        await asked
    assert vendor.requests[0].state == "broken"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    vendor.revive()
    assert vendor.port == port
    assert (await model.ainvoke("ping")).text == "pong"


async def test_connections_can_be_kept() -> None:
    with Vendor(keep_alive=True) as vendor:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=vendor.openai_url, max_retries=0) as client:
            vendor.script(answer(), status(503))
            ask: Any = functools.partial(client.chat.completions.create, model="m", messages=[PING])
            await ask()
            with pytest.raises(openai.InternalServerError):
                await ask()
            _ = [chunk async for chunk in await ask(stream=True)]
            await ask()
        assert {request.connection for request in vendor.requests} == {1}


async def test_many_at_once(vendor: Vendor) -> None:
    vendor.always(lambda request: answer(f"heard {request.text}"))
    model = chat("anthropic", vendor.url)
    said = await asyncio.gather(*(model.ainvoke(str(at)) for at in range(50)))
    assert [each.text for each in said] == [f"heard {at}" for at in range(50)]


async def test_embeddings(vendor: Vendor) -> None:
    client = openai.AsyncOpenAI(api_key=KEY, base_url=vendor.openai_url, max_retries=0)
    more: Any
    for more in ({"encoding_format": "float"}, {}):  # left alone, the SDK asks for base64
        found = await client.embeddings.create(model="m", input=["a", "b"], **more)
        assert [each.embedding for each in found.data] == [vector("a", 8), vector("b", 8)]
    assert vector("a", 8) != vector("b", 8)
    vendor.script(vectors(4, count=3), vectors(shuffled=True))
    assert [len(each.embedding) for each in (await client.embeddings.create(model="m", input=["a"])).data] == [4] * 3
    assert [each.index for each in (await client.embeddings.create(model="m", input=["a", "b"])).data] == [1, 0]


@pytest.mark.parametrize("kind", VENDORS)
async def test_it_answers_the_underwriting_flow(vendor: Vendor, kind: str) -> None:
    vendor.always(underwriting)
    facts = (
        '{"product": "card", "bureau": null, "most_cents": 500000, "policy": [{"id": "p"}],'
        ' "identity": {"kyc_status": "verified"}}'
    )
    said = await chat(kind, vendor.url).with_structured_output(Proposal).ainvoke(facts)
    assert isinstance(said, Proposal)
    assert (said.outcome, said.cited_policies) == ("approve", ["p"])


async def test_a_process_that_is_killed_while_it_answers() -> None:
    with vendor_process("--reply", "pong", "--hold-after", "1") as process:
        model = chat("openai", process.url)
        assert (await model.ainvoke("ping")).text == "pong"
        assert process.next_request()["path"] == "/v1/chat/completions"
        asked = asyncio.create_task(model.ainvoke("ping"))
        assert (await asyncio.to_thread(process.next_request))["model"] == "m"
        process.kill()
        with pytest.raises(openai.APIConnectionError):
            await asked
