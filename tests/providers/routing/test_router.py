"""Routed calls over real HTTP: who is asked, who is asked instead, and what the record says of it."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from superstep.providers.catalog.model import Hedge, Price, Route, Rule
from superstep.providers.policy.breaker import CircuitBreaker
from superstep.runtime.faults import ConfigError, ProviderExhausted, ProviderRejected
from tests.support.routes import KEY, Bed, quick
from tests.support.vendors import answer, call, empty, hang_up, raw, refused, status

if TYPE_CHECKING:
    from tests.support.vendors import Act


class Verdict(BaseModel):
    """A verdict."""

    outcome: str
    amount: int


@tool
def lookup(key: str) -> str:
    """Look a key up."""
    return key


def record(message: AIMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["routing"]
    return found


def whys(message: AIMessage) -> list[tuple[str, str]]:
    return [(tried["deployment"], tried["why"]) for tried in record(message)["tried"]]


# -- who answers ---------------------------------------------------------------------------------------------------


async def test_the_first_deployment_answers_and_the_record_says_so(bed: Bed) -> None:
    message = await bed.model().ainvoke("ping")
    assert message.text == "pong"
    found = record(message)
    assert (found["route"], found["deployment"], found["provider"]) == ("r", "r/openai", "openai-compatible")
    assert (found["input_tokens"], found["output_tokens"]) == (7, 3)
    assert found["usd"] == pytest.approx((7 * 1.0 + 3 * 2.0) / 1e6)
    assert found["tried"] == []
    assert found["ms"] > 0
    assert found["content"] is None
    assert bed.second.count == 0


FAILURES = [
    (status(503), "status 503"),
    (status(500), "status 500"),
    (status(529), "status 529"),
    (status(404), "status 404"),
    (status(429, retry_after=3600), "status 429"),
    (status(429, code="insufficient_quota"), "quota used up"),
    (hang_up(), "connection failed"),
    (raw(), "malformed answer"),
    (raw(b"<html>gateway</html>", content_type="text/html"), "malformed answer"),
    (empty(), "malformed answer"),
]


@pytest.mark.parametrize(("fault", "why"), FAILURES, ids=[why + str(at) for at, (_, why) in enumerate(FAILURES)])
async def test_a_failing_deployment_is_left_for_the_next(fault: Act, why: str, bed: Bed) -> None:
    bed.first.always(fault)
    message = await bed.model().ainvoke("ping")
    assert message.text == "pong"
    assert record(message)["deployment"] == "r/anthropic"
    assert whys(message) == [("r/openai", why)]
    assert (bed.first.count, bed.second.count) == (1, 1)


async def test_a_vendor_that_is_gone_is_left(bed: Bed) -> None:
    bed.first.kill()
    message = await bed.model().ainvoke("ping")
    assert whys(message) == [("r/openai", "connection failed")]


@pytest.mark.parametrize("number", [400, 401, 403, 422])
async def test_a_request_at_fault_is_asked_once(number: int, bed: Bed) -> None:
    bed.first.always(status(number, message="the key {key} is wrong"))
    with pytest.raises(ProviderRejected, match=f"status {number}") as caught:
        await bed.model(bed.openai(retries=3), bed.anthropic()).ainvoke("ping")
    assert (bed.first.count, bed.second.count) == (1, 0)
    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_everybody_failing_is_one_error_with_each(bed: Bed) -> None:
    bed.first.always(status(503))
    bed.second.always(status(529))
    with pytest.raises(ProviderExhausted) as caught:
        await bed.model(bed.openai(retries=1), bed.anthropic()).ainvoke("ping")
    assert [getattr(error, "status_code", None) for error in caught.value.exceptions] == [503, 503, 529]
    assert [tried["deployment"] for tried in caught.value.tried] == ["r/openai", "r/openai", "r/anthropic"]
    assert "r/openai (status 503), 2 times, r/anthropic (status 529)" in str(caught.value)
    assert "runtime resume" in str(caught.value)


async def test_retries_stay_on_the_deployment(bed: Bed) -> None:
    bed.first.script(status(503), status(500))
    message = await bed.model(bed.openai(retries=2), bed.anthropic()).ainvoke("ping")
    assert record(message)["deployment"] == "r/openai"
    assert (bed.first.count, bed.second.count) == (3, 0)


async def test_a_short_retry_after_is_routed_around(bed: Bed) -> None:
    """Two of three calls find the first deployment cooling down: they ask the second one at once."""
    bed.first.script(status(429, retry_after=30))
    model = bed.model(bed.openai(retries=3), bed.anthropic())
    answers = [await model.ainvoke("ping") for _ in range(3)]
    assert [record(each)["deployment"] for each in answers] == ["r/anthropic"] * 3
    assert whys(answers[0])[0] == ("r/openai", "status 429")
    assert whys(answers[2]) == [("r/openai", "rate limit")]
    assert bed.first.count == 1


async def test_a_short_retry_after_is_waited_for_if_nobody_else_is_there(bed: Bed) -> None:
    bed.first.script(status(429, retry_after=0.2), status(429, headers={"retry-after-ms": "20"}))
    message = await bed.model(bed.openai(retries=2)).ainvoke("ping")
    assert message.text == "pong"
    assert bed.first.count == 3


async def test_an_open_circuit_keeps_calls_away(bed: Bed) -> None:
    bed.first.always(status(503))
    model = bed.model(bed.openai(breaker=quick()), bed.anthropic())
    await model.ainvoke("ping")
    message = await model.ainvoke("ping")
    assert whys(message) == [("r/openai", "circuit open")]
    assert bed.first.count == 1
    assert bed.service is not None
    assert isinstance(bed.service.router.states["r/openai"].breaker, CircuitBreaker)


async def test_a_key_that_is_not_set_is_no_candidate(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRST_KEY")
    message = await bed.model().ainvoke("ping")
    assert whys(message) == [("r/openai", "FIRST_KEY is not set")]
    monkeypatch.delenv("SECOND_KEY")
    with pytest.raises(ProviderExhausted, match="SECOND_KEY is not set"):
        await bed.model().ainvoke("ping")


async def test_an_unknown_route_is_named_with_the_known_ones(bed: Bed) -> None:
    model = bed.model().model_copy(update={"route": "rr"})
    with pytest.raises(ConfigError, match=r"no model route 'rr'\. Did you mean 'r'"):
        await model.ainvoke("ping")


# -- fallbacks and rules -------------------------------------------------------------------------------------------


async def test_a_fallback_route_serves_when_the_deployments_are_used_up(bed: Bed) -> None:
    bed.first.always(status(503))
    other = Route(name="other", deployments=(bed.anthropic(),))
    message = await bed.model(bed.openai(), others=(other,), fallbacks=("other",)).ainvoke("ping")
    assert (record(message)["route"], record(message)["deployment"]) == ("r", "r/anthropic")


async def test_too_long_an_input_goes_to_its_own_fallback(bed: Bed) -> None:
    bed.first.always(status(400, code="context_length_exceeded"))
    wide = Route(name="wide", deployments=(bed.anthropic(),))
    message = await bed.model(bed.openai(), others=(wide,), context_fallbacks=("wide",)).ainvoke("ping")
    assert whys(message) == [("r/openai", "input too long")]
    assert record(message)["deployment"] == "r/anthropic"


@pytest.mark.parametrize("fault", [refused("no"), refused("", refusal="no"), status(400, code="content_filter")])
async def test_refused_content_goes_to_its_own_fallback(fault: Act, bed: Bed) -> None:
    bed.first.always(fault)
    lenient = Route(name="lenient", deployments=(bed.anthropic(),))
    message = await bed.model(bed.openai(), others=(lenient,), content_fallbacks=("lenient",)).ainvoke("ping")
    assert whys(message) == [("r/openai", "content refused")]


async def test_a_refusal_is_an_answer_where_nobody_else_may_be_asked(bed: Bed) -> None:
    bed.first.always(refused("no"))
    message = await bed.model(bed.openai()).ainvoke("ping")
    assert message.text == "no"


async def test_rules_send_simple_calls_elsewhere(bed: Bed) -> None:
    cheap = Route(name="cheap", deployments=(bed.openai("cheap"),))
    rules = (Rule("cheap", tags=frozenset({"simple"}), max_input_tokens=10),)
    model = bed.model(bed.anthropic(), others=(cheap,), rules=rules)
    simple = await model.ainvoke("ping", {"tags": ["simple"]})
    long = await model.ainvoke("ping " * 20, {"tags": ["simple"]})
    untagged = await model.ainvoke("ping")
    assert [record(each)["deployment"] for each in (simple, long, untagged)] == [
        "r/cheap",
        "r/anthropic",
        "r/anthropic",
    ]
    assert record(simple)["tags"] == ["simple"]


# -- tools and schemas ---------------------------------------------------------------------------------------------


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


# -- time ----------------------------------------------------------------------------------------------------------


async def test_a_slow_deployment_is_left_at_its_time_limit(bed: Bed) -> None:
    bed.first.always(answer("late").stall())
    message = await bed.model(bed.openai(timeout=0.1), bed.anthropic()).ainvoke("ping")
    assert whys(message) == [("r/openai", "no answer in 0.1 s")]
    await bed.first.until(lambda: bed.first.requests[0].state == "gone")


async def test_a_cancelled_call_hangs_up(bed: Bed) -> None:
    bed.first.always(answer("late").stall())
    asking = asyncio.create_task(bed.model().ainvoke("ping"))
    await bed.first.until(lambda: bed.first.count == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await bed.first.until(lambda: bed.first.requests[0].state == "gone")
    assert bed.second.count == 0
    assert bed.service is not None
    assert bed.service.router.states["r/openai"].health.in_flight == 0


async def test_a_hedge_answers_when_the_first_is_slow_and_the_first_is_hung_up_on(bed: Bed) -> None:
    bed.first.script(answer("quick"), answer("slow").stall())
    bed.second.always(answer("hedged"))
    model = bed.model(bed.openai(), bed.anthropic(price=Price(1.0, 2.0)), hedge=Hedge(after=0.2, max_share=1.0))
    assert (await model.ainvoke("ping")).text == "quick"
    message = await model.ainvoke("ping")
    assert message.text == "hedged"
    assert record(message)["hedged"] is True
    await bed.first.until(lambda: bed.first.requests[1].state == "gone")
    assert bed.service is not None
    assert [state.health.in_flight for state in bed.service.router.states.values()] == [0, 0]


async def test_slots_are_not_exceeded_and_waited_for(bed: Bed) -> None:
    """One slot, no other deployment: the second call is only sent when the first has been answered."""
    gate = threading.Event()
    bed.first.script(answer("one").stall(until=gate))
    model = bed.model(bed.openai(concurrency=1))
    both = [asyncio.create_task(model.ainvoke("ping")) for _ in range(2)]
    await bed.first.until(lambda: bed.first.count == 1 and bed.first.requests[0].state == "stalled")
    assert bed.first.count == 1
    gate.set()
    assert sorted([(await each).text for each in both]) == ["one", "pong"]


# -- streams -------------------------------------------------------------------------------------------------------


async def collected(stream: Any) -> tuple[list[str], AIMessageChunk]:
    chunks: list[AIMessageChunk] = [chunk async for chunk in stream]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk  # type: ignore[assignment]
    return [chunk.text for chunk in chunks if chunk.text], whole


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_stream_arrives_word_by_word_with_its_record_at_the_end(vendor: str, bed: Bed) -> None:
    for each in (bed.first, bed.second):
        each.always(answer("one two three"))
    words, whole = await collected(bed.model(getattr(bed, vendor)()).astream("ping"))
    assert words == ["one ", "two ", "three"]
    found = whole.response_metadata["routing"]
    assert found["deployment"] == f"r/{vendor}"
    assert (found["input_tokens"], found["output_tokens"]) == (7, 3)
    assert 0 < found["first_token_ms"] <= found["ms"]
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 10


STREAM_FAULTS = [
    (status(503), "status 503"),
    (answer("one two").cut(), "connection failed"),
    (answer("one two").end(), "stream cut"),
    (answer("one two").fail(code="overloaded_error"), "overloaded"),
    (answer("one two").garble(), "malformed answer"),
]


@pytest.mark.parametrize(("fault", "why"), STREAM_FAULTS, ids=[why for _, why in STREAM_FAULTS])
async def test_before_the_first_token_a_failure_goes_unnoticed(fault: Act, why: str, bed: Bed) -> None:
    bed.first.always(fault)
    words, whole = await collected(bed.model().astream("ping"))
    assert words == ["pong"]
    tried = whole.response_metadata["routing"]["tried"]
    assert [(each["deployment"], each["why"]) for each in tried] == [("r/openai", why)]


async def test_a_first_token_that_does_not_come_is_not_waited_for(bed: Bed) -> None:
    bed.first.always(answer("one two").stall())
    _, whole = await collected(bed.model(bed.openai(first_token_timeout=0.1), bed.anthropic()).astream("ping"))
    assert whole.response_metadata["routing"]["tried"][0]["why"] == "no first token in 0.1 s"
    await bed.first.until(lambda: bed.first.requests[0].state == "gone")


BROKEN = [answer("one two three").cut(after=1), answer("one two three").end(after=1), answer("one two").stall(after=1)]


@pytest.mark.parametrize("fault", BROKEN, ids=["cut", "ended without a reason", "stalled"])
async def test_after_the_first_token_a_broken_stream_is_an_error(fault: Act, bed: Bed) -> None:
    bed.first.always(fault)
    stream = bed.model(bed.openai(token_timeout=0.2), bed.anthropic()).astream("ping")
    assert (await anext(stream)).text == "one "
    with pytest.raises(ProviderExhausted, match="broke after 4 characters"):
        await anext(stream)
    assert bed.second.count == 0


async def test_text_is_continued_by_another_model_only_by_setting(bed: Bed) -> None:
    bed.first.always(answer("one two three").cut(after=2))
    bed.second.always(answer("three"))
    words, whole = await collected(bed.model(continue_text=True).astream("ping"))
    assert words == ["one ", "two ", "three"]
    assert whole.response_metadata["routing"]["deployment"] == "r/anthropic"
    told = bed.second.requests[0].body["messages"]
    assert [each["role"] for each in told] == ["user", "assistant", "user"]
    assert "one two" in str(told[1]["content"])


async def test_a_tool_call_is_never_put_together_from_two_models(bed: Bed) -> None:
    bed.first.always(call("lookup", {"key": "a long enough value to come in pieces"}).cut(after=1))
    model = bed.model(continue_text=True).bind_tools([lookup])
    with pytest.raises(ProviderExhausted, match="never put together from two models"):
        await collected(model.astream("ping"))
    assert bed.second.count == 0


async def test_a_stream_left_early_hangs_up(bed: Bed) -> None:
    bed.first.always(answer("one two three").stall(after=1))
    async for chunk in bed.model().astream("ping"):
        assert chunk.text == "one "
        break
    await bed.first.until(lambda: bed.first.requests[0].state == "gone")
    assert bed.service is not None
    assert bed.service.router.states["r/openai"].health.in_flight == 0


# -- callers that cannot await -------------------------------------------------------------------------------------


def test_synchronous_calls(bed: Bed) -> None:
    bed.first.script(status(503), answer("one two"))
    model = bed.model()
    assert record(model.invoke("ping"))["deployment"] == "r/anthropic"
    assert [chunk.text for chunk in model.stream("ping") if chunk.text] == ["one ", "two"]
    assert model.with_structured_output(Verdict, include_raw=True).invoke("ping")["parsed"] is None


def test_models_serve_one_event_loop_after_the_other(bed: Bed) -> None:
    model = bed.model()
    assert [asyncio.run(model.ainvoke([HumanMessage("ping")])).text for _ in range(2)] == ["pong", "pong"]
