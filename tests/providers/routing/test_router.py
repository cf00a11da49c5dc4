"""Routed calls over real HTTP: who is asked, who is asked instead, and what the record says of it."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

from superstep.providers.catalog.model import Hedge, Price, Route, Rule
from superstep.providers.policy.breaker import CircuitBreaker
from superstep.runtime.faults import ConfigError, ProviderExhausted, ProviderRejected
from tests.support.routes import KEY, Bed, quick, record, whys
from tests.support.vendors import answer, empty, hang_up, raw, refused, status

if TYPE_CHECKING:
    from tests.support.vendors import Act


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


# -- time ----------------------------------------------------------------------------------------------------------


async def test_a_slow_deployment_is_left_at_its_time_limit(bed: Bed) -> None:
    bed.first.always(answer("late").stall())
    message = await bed.model(bed.openai(timeout=0.1), bed.anthropic()).ainvoke("ping")
    assert whys(message) == [("r/openai", "no answer in 0.1 s")]
    await bed.first.until(lambda: all(each.state == "gone" for each in bed.first.requests))


async def test_a_cancelled_call_hangs_up(bed: Bed) -> None:
    bed.first.always(answer("late").stall())
    asking = asyncio.create_task(bed.model().ainvoke("ping"))
    await bed.first.until(lambda: bed.first.count == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await bed.first.until(lambda: all(each.state == "gone" for each in bed.first.requests))
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
