"""What is asked of each provider, and how its answers end: arguments over real HTTP, endings over real chunks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage

from superstep.providers.transport.wire import cut_short, ended, refused
from superstep.runtime.faults import ProviderRejected
from tests.support.routes import Verdict, lookup
from tests.support.vendors import answer, raw, status

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Deployment
    from tests.support.routes import Bed

_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


# -- OpenAI's responses --------------------------------------------------------------------------------------------


def responses(bed: Bed) -> Deployment:
    return replace(bed.openai(), provider="openai", parameters={"use_responses_api": True})


def stream(kind: str, **end: Any) -> bytes:
    """Two words, then the event `kind`, of a response that ends as `end` says."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []}
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "served-1",
        "output": [{**item, "content": [{"type": "output_text", "text": "one two", "annotations": []}]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **end,
    }
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": {**whole, "status": "in_progress", "output": []}}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress"}}),
        ("response.output_text.delta", {**at, "delta": "one "}),
        ("response.output_text.delta", {**at, "delta": "two"}),
        (kind, {"response": whole}),
    ]
    lines = [{"type": name, "sequence_number": at, **data} for at, (name, data) in enumerate(events)]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in lines)


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("response.completed", {"status": "completed"}),
        ("response.incomplete", {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
    ],
)
async def test_a_stream_of_the_responses_api_ends_with_a_status(kind: str, end: dict[str, Any], bed: Bed) -> None:
    bed.first.always(raw(stream(kind, **end), content_type="text/event-stream"))
    chunks = [chunk async for chunk in bed.model(responses(bed)).astream("ping")]
    assert bed.first.requests[0].path.endswith("/responses")
    assert "".join(chunk.text for chunk in chunks) == "one two"
    assert chunks[-1].response_metadata["routing"]["tried"] == []
    assert cut_short(chunks[-1].response_metadata) == (kind == "response.incomplete")


@pytest.mark.parametrize(
    ("metadata", "whole"),
    [
        ({"status": "completed"}, True),
        ({"status": "incomplete"}, True),
        ({"status": "in_progress"}, False),
        ({"finish_reason": "stop"}, True),
        ({"stop_reason": "end_turn"}, True),
        ({}, False),
    ],
)
def test_a_stream_has_ended_when_its_provider_says_so(metadata: dict[str, Any], whole: bool, bed: Bed) -> None:
    assert ended(bed.openai(), metadata) is whole
    assert ended(replace(bed.openai(), provider="langchain", path="a:B"), metadata)


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", response_metadata={"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
        AIMessage([{"type": "refusal", "refusal": "I will not."}], response_metadata={"status": "completed"}),
        AIMessage("", additional_kwargs={"refusal": "I will not."}),
        AIMessage("", response_metadata={"stop_reason": "refusal"}),
    ],
)
def test_a_refusal_is_known_in_every_spelling(message: AIMessage) -> None:
    assert refused(message)


def test_an_answer_cut_by_its_length_is_no_refusal() -> None:
    metadata = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert not refused(AIMessage("one", response_metadata=metadata))
    assert cut_short(metadata)


# -- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bogus", "json_mode"])
def test_a_method_that_is_not_there_is_refused_at_once(method: str, bed: Bed) -> None:
    with pytest.raises(ValueError, match=r"function_calling.*json_schema"):
        bed.model().with_structured_output(Verdict, method=method)


async def test_tools_go_along_with_a_schema(bed: Bed) -> None:
    bed.first.always(answer({"outcome": "approve", "amount": 5}))
    tools = bed.model().bind_tools([lookup]).kwargs["tools"]  # type: ignore[attr-defined]
    model = bed.model(bed.openai()).with_structured_output(Verdict, tools=tools)
    assert (await model.ainvoke("ping")).amount == 5
    body = bed.first.requests[0].body
    assert [each["function"]["name"] for each in body["tools"]] == ["lookup"]
    assert body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_no_tool_is_forced_where_none_may_be_called(vendor: str, bed: Bed) -> None:
    deployment = bed.openai() if vendor == "openai" else bed.anthropic()
    await bed.model(deployment).bind_tools([lookup], tool_choice="none").ainvoke("ping")
    (request,) = [*bed.first.requests, *bed.second.requests]
    assert request.body.get("tool_choice", "none") in ("none", {"type": "none"})


async def test_a_tool_that_the_vendor_runs_goes_as_it_is(bed: Bed) -> None:
    await bed.model(bed.anthropic()).bind_tools([_SEARCH, lookup]).ainvoke("ping")
    first, second = bed.second.requests[0].body["tools"]
    assert first == _SEARCH
    assert second["name"] == "lookup"


async def test_a_stop_sequence_may_be_a_parameter_of_the_model(bed: Bed) -> None:
    model = bed.model().model_copy(update={"parameters": {"stop": ["x"]}})
    await model.ainvoke("ping")
    await model.ainvoke("ping", stop=["y"])
    assert [request.body["stop"] for request in bed.first.requests] == [["x"], ["y"]]


async def test_an_argument_that_was_never_sent_is_no_refusal_of_a_provider(bed: Bed) -> None:
    bed.first.always(status(503))
    model = bed.model().model_copy(update={"parameters": {"seed": 1}})
    with pytest.raises(ProviderRejected, match="could not be made of r/anthropic") as caught:
        await model.ainvoke("ping")
    assert "refused" not in str(caught.value)
    assert bed.second.count == 0


async def test_a_fallback_of_langchain_offers_the_tools_too(bed: Bed) -> None:
    model = bed.model().with_fallbacks([bed.model()])
    message = await model.bind_tools([lookup]).ainvoke("ping")
    assert message.text == "pong"
    assert bed.first.requests[0].body["tools"][0]["function"]["name"] == "lookup"
