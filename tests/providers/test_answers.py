"""What counts as an answer: values that were cut are none, and streams end in more than one way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.tools import tool
from pydantic import BaseModel

from providers.config import Route
from tests.support.vendors import Act, answer, raw, refused

if TYPE_CHECKING:
    from tests.providers.conftest import Bed


class Verdict(BaseModel):
    """A verdict."""

    amount: int


@tool
def lookup(key: str) -> str:
    """Look a key up."""
    return key


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def responses(*, completed: bool = True) -> Act:
    """A stream of OpenAI's newer API: it ends with a status, not with a finish reason."""
    text = {"type": "output_text", "text": "one two", "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
    done: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "served",
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 7,
            "output_tokens": 3,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    parts = [
        event("response.created", response=begun, sequence_number=0),
        event(
            "response.output_item.added",
            output_index=0,
            item={**item, "status": "in_progress", "content": []},
            sequence_number=1,
        ),
        event("response.output_text.delta", **place, delta="one ", logprobs=[], sequence_number=2),
        event("response.output_text.delta", **place, delta="two", logprobs=[], sequence_number=3),
        event("response.completed", response=done, sequence_number=4),
    ]
    return raw(b"".join(parts if completed else parts[:2]), content_type="text/event-stream")


async def text_of(stream: Any) -> str:
    return "".join([chunk.text async for chunk in stream])


async def test_a_stream_that_ends_with_a_status_is_complete(bed: Bed) -> None:
    bed.first.always(responses())
    newer = replace(bed.openai(), provider="openai", parameters={"use_responses_api": True})
    assert await text_of(bed.model(newer, bed.anthropic()).astream("ping")) == "one two"
    assert bed.second.count == 0
    bed.first.always(responses(completed=False))
    assert await text_of(bed.model(newer, bed.anthropic()).astream("ping")) == "pong"


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_a_value_that_was_cut_is_no_value(vendor: str, way: str, bed: Bed) -> None:
    """`{"amount": 12` would read as 12, and was to become 1200."""
    for each in (bed.first, bed.second):
        each.always(answer('{"amount": 12', finish="length"))
    asked = bed.model(getattr(bed, vendor)()).with_structured_output(Verdict, method="json_schema")
    with pytest.raises(Exception, match=r"cut|answered|length") as caught:
        await (asked.ainvoke("ping") if way == "ainvoke" else collected(asked.astream("ping")))
    assert vendor != "anthropic" or isinstance(caught.value, OutputParserException)


async def collected(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_a_value_in_a_fence_is_read_and_half_of_one_is_not(bed: Bed) -> None:
    asked = bed.model(bed.anthropic()).with_structured_output(Verdict, method="json_schema")
    bed.second.script(answer('```json\n{"amount": 12}\n```'), answer('{"amount": 12'))
    assert await asked.ainvoke("ping") == Verdict(amount=12)
    with pytest.raises(OutputParserException, match="holds no value"):
        await asked.ainvoke("ping")


async def test_a_refusal_is_asked_elsewhere_in_streams_too(bed: Bed) -> None:
    bed.first.always(refused())
    lenient = Route(name="lenient", deployments=(bed.anthropic(),))
    model = bed.model(bed.openai(), others=(lenient,), content_fallbacks=("lenient",))
    assert await text_of(model.astream("ping")) == "pong"


async def test_a_method_that_nobody_knows_is_refused_at_once(bed: Bed) -> None:
    with pytest.raises(ValueError, match="no method 'bogus'"):
        bed.model().with_structured_output(Verdict, method="bogus")


async def test_no_tool_is_offered_where_none_may_be_called(bed: Bed) -> None:
    model = bed.model(bed.anthropic()).bind_tools([lookup], tool_choice="none")
    await model.ainvoke("ping")
    assert "tools" not in bed.second.requests[0].body


async def test_tools_can_be_bound_behind_langchains_own_fallbacks(bed: Bed) -> None:
    model = bed.model().with_fallbacks([bed.model()]).bind_tools([lookup])  # type: ignore[attr-defined]
    assert (await model.ainvoke("ping")).text == "pong"


async def test_every_ending_is_recorded(bed: Bed) -> None:
    """The model that the provider names, also where LangChain keeps the name beside the message."""
    message = await bed.model().ainvoke("ping")
    served = message.response_metadata["model_name"]
    assert message.response_metadata["routing"]["model"] == served
