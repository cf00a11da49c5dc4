"""What is paid for is recorded where it gave no answer, too: hedges that lost, time that ran out, answers of no use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.globals import get_llm_cache, set_llm_cache

from superstep.providers.catalog.model import Hedge, Route
from superstep.providers.policy.charges import may_have_cost
from superstep.providers.policy.failures import StreamCut, TooSlow, classify
from superstep.providers.records.ports import Hooks, hooks
from superstep.runtime.faults import ProviderExhausted
from tests.support.routes import Bed, record, whole, whys
from tests.support.vendors import answer, empty, hang_up, raw, refused, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.vendors import Act

# A token costs 1 in and 2 out at the first vendor, 10 and 20 at the second, in millionths of a dollar. The estimate of
# "ping" is one token.
ANSWER = answer("pong", usage=(7, 3))
AT_FIRST, AT_SECOND = 7 + 2 * 3, 10 * 7 + 20 * 3


def millionths(found: dict[str, Any]) -> float:
    return round(found["usd"] * 1e6, 6)


@pytest.fixture
def records() -> Iterator[list[Any]]:
    before, cache, kept = hooks(), get_llm_cache(), list[Any]()

    async def keep(found: Any) -> None:
        kept.append(found)

    hooks(Hooks(record=keep))
    set_llm_cache(None)  # a saver's memo, which would keep them with the answers, outlives its test
    yield kept
    hooks(before)
    set_llm_cache(cache)


async def asked(model: Any, *, stream: bool) -> Any:
    return await whole(model) if stream else await model.ainvoke("ping")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_attempt_whose_time_ran_out_is_recorded(bed: Bed, stream: bool) -> None:
    bed.first.always(ANSWER.slow(first_byte=30))
    bed.second.always(ANSWER)
    message = await asked(bed.model(bed.openai(timeout=0.3), bed.anthropic()), stream=stream)
    found = record(message)
    # As much as the other one said, at its own price.
    assert millionths(found) == AT_SECOND + 1 + 2 * 3
    assert (found["input_tokens"], found["output_tokens"]) == (7 + 1, 3 + 3)
    assert [round(each["usd"] * 1e6, 6) for each in found["tried"]] == [1 + 2 * 3]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_hedge_that_lost_is_recorded(bed: Bed, stream: bool) -> None:
    bed.first.script(ANSWER).always(ANSWER.slow(first_byte=30))
    bed.second.always(ANSWER)
    model = bed.model(bed.openai(), bed.anthropic(), hedge=Hedge(after=0.2, max_share=100.0))
    await asked(model, stream=stream)  # earns what the second attempt may cost
    message = await asked(model, stream=stream)
    found = record(message)
    assert (found["hedged"], whys(message)) == (True, [("r/openai", "cancelled")])
    assert millionths(found) == AT_SECOND + 1 + 2 * 3


@pytest.mark.parametrize(
    ("act", "usd"),
    [
        (refused("no"), AT_FIRST),  # counted by the vendor
        (raw(), 1 + 2 * 3),  # half an answer
        (empty(), 1 + 2 * 3),
        (status(503), 0),
        (status(400, code="context_length_exceeded"), 0),
        (hang_up(), 0),
    ],
)
async def test_what_an_answer_of_no_use_cost(bed: Bed, act: Act, usd: float) -> None:
    bed.first.always(act)
    bed.second.always(ANSWER)
    lenient = Route(name="lenient", deployments=(bed.anthropic(),))
    model = bed.model(bed.openai(), bed.anthropic(), content_fallbacks=("lenient",), others=(lenient,))
    found = record(await model.ainvoke("ping"))
    assert found["deployment"] == "r/anthropic"
    assert millionths(found) == AT_SECOND + usd


async def test_a_vendor_that_is_away_sends_no_bill(bed: Bed) -> None:
    bed.first.kill()
    bed.second.always(ANSWER)
    found = record(await bed.model().ainvoke("ping"))
    assert millionths(found) == AT_SECOND
    assert "usd" not in found["tried"][0]


async def test_what_a_call_without_an_answer_cost_is_recorded(bed: Bed, records: list[Any]) -> None:
    """Nobody has counted anything: as much as calls lately took, else as much as they may."""
    bed.first.script(ANSWER).always(ANSWER.slow(first_byte=30))
    model = bed.model(bed.openai(timeout=0.3))
    await model.ainvoke("ping")
    with pytest.raises(ProviderExhausted):
        await model.ainvoke("ping")
    assert [millionths(each) for each in records] == [AT_FIRST, 1 + 2 * 3]
    bed.second.always(ANSWER.slow(first_byte=30))
    with pytest.raises(ProviderExhausted):
        await bed.model(bed.anthropic(timeout=0.3, parameters={"max_tokens": 50})).ainvoke("ping")
    assert millionths(records[-1]) == 10 + 20 * 50
    assert records[-1]["outcome"] == "failed"


async def test_what_a_caller_who_left_has_cost_is_recorded(bed: Bed, records: list[Any]) -> None:
    bed.first.always(ANSWER.stall())
    calling = asyncio.create_task(bed.model(bed.openai()).ainvoke("ping", max_tokens=20))
    await bed.first.until(lambda: [each.state for each in bed.first.requests] == ["stalled"])
    calling.cancel()
    await asyncio.wait({calling})
    await bed.first.until(lambda: bool(records))
    assert (records[0]["outcome"], millionths(records[0])) == ("abandoned", 1 + 2 * 20)


async def test_one_who_left_before_anything_was_sent_has_cost_nothing(bed: Bed, records: list[Any]) -> None:
    bed.first.always(ANSWER.stall())
    model = bed.model(bed.openai(concurrency=1))
    first = asyncio.create_task(model.ainvoke("ping"))
    await bed.first.until(lambda: [each.state for each in bed.first.requests] == ["stalled"])
    second = asyncio.create_task(model.ainvoke("ping"))
    assert bed.service is not None
    state = bed.service.router.states["r/openai"]
    await bed.first.until(lambda: state.waiting == 1)
    second.cancel()
    await asyncio.wait({second})
    await bed.first.until(lambda: bool(records))
    assert (bed.first.count, millionths(records[0]), records[0]["input_tokens"]) == (1, 0, 0)
    first.cancel()
    await asyncio.wait({first})


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "sent", "costs"),
    [
        (TooSlow("no answer", 1.0), None, True, True),
        (TooSlow("no answer", 1.0), None, None, True),
        (TooSlow("no answer", 1.0), None, False, False),
        (StreamCut("cut"), 200, True, True),
        (httpx2.ReadTimeout("slow"), None, True, True),
        (httpx2.ConnectTimeout("slow"), None, None, False),
        (caused(TimeoutError(), httpx2.PoolTimeout("slow")), None, None, False),
        (ValueError({"code": 429, "message": "slow down"}), 200, True, False),
        (KeyError("choices"), 200, True, True),
        (KeyError("choices"), None, None, False),
    ],
)
def test_which_failures_cost(error: Exception, status: int | None, sent: bool | None, costs: bool) -> None:
    assert may_have_cost(error, classify(error, status=status), sent=sent) is costs
