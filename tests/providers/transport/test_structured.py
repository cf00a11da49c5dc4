"""Values of schemas, read out of answers; tools beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage

from superstep.providers.transport.structured import read_value
from superstep.runtime.faults import ProviderExhausted
from tests.support.routes import Bed, Verdict, lookup, whole
from tests.support.vendors import answer, call, raw, status

if TYPE_CHECKING:
    from tests.support.routes import Bed


async def test_tools_work_with_whoever_answers(bed: Bed) -> None:
    bed.first.script(call("lookup", {"key": "a"}), status(503))
    bed.second.always(call("lookup", {"key": "b"}))
    model = bed.model().bind_tools([lookup], tool_choice="any")
    for key in ("a", "b"):
        message = await model.ainvoke("ping")
        assert [(each["name"], each["args"]) for each in message.tool_calls] == [("lookup", {"key": key})]
    assert bed.first.requests[0].body["tool_choice"] == "required"
    assert bed.second.requests[0].body["tool_choice"] == {"type": "any"}


async def test_a_schema_is_filled_by_whoever_answers(bed: Bed) -> None:
    value = {"outcome": "approve", "amount": 5}
    bed.first.script(answer(value), status(503))
    bed.second.always(answer(value))
    model = bed.model().with_structured_output(Verdict)
    assert [await model.ainvoke("ping") for _ in range(2)] == [Verdict(outcome="approve", amount=5)] * 2
    assert bed.first.requests[0].body["response_format"]["type"] == "json_schema"
    assert bed.second.requests[0].body["tool_choice"] == {"type": "tool", "name": "Verdict"}


async def test_the_method_can_be_chosen_and_a_dict_is_returned_for_a_dict(bed: Bed) -> None:
    bed.first.always(answer({"outcome": "approve", "amount": 5}))
    schema = Verdict.model_json_schema()
    value = await bed.model().with_structured_output(schema, method="function_calling").ainvoke("ping")
    assert value == {"outcome": "approve", "amount": 5}
    assert "response_format" not in bed.first.requests[0].body


async def test_an_answer_that_does_not_fit_is_an_error_or_told(bed: Bed) -> None:
    bed.first.always(answer({"outcome": "approve"}))
    with pytest.raises(OutputParserException, match="does not fit Verdict"):
        await bed.model().with_structured_output(Verdict).ainvoke("ping")
    both = await bed.model().with_structured_output(Verdict, include_raw=True).ainvoke("ping")
    assert both["parsed"] is None
    assert isinstance(both["parsing_error"], OutputParserException)
    assert isinstance(both["raw"], AIMessage)


_CUT = '{"outcome": "approve", "amount": 12'


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
