"""Streams of routed models: failures before the first token and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.runtime.faults import ProviderExhausted
from tests.support.routes import Bed, collected, lookup
from tests.support.vendors import answer, call, status

if TYPE_CHECKING:
    from tests.support.vendors import Act


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
