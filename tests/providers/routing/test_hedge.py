"""Second attempts: bounds, failures, what is left of the one that lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.catalog.model import Deployment, Hedge, Route
from superstep.providers.routing.router import Ask, LeasedAnswer
from tests.providers.routing.deployments import Refusing, asked, deployment, nothing, router

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.routing.candidates import Candidate


HEDGE = Hedge(after=0.001, max_share=1.0)


def slow_first(gate: asyncio.Event, second: Exception | str) -> Callable[[Candidate], Any]:
    """The first deployment answers when the second has been asked and has done what it does."""

    async def send(candidate: Candidate) -> str:
        if candidate.deployment.name == "a":
            await gate.wait()
            return "slow"
        gate.set()
        if isinstance(second, Exception):
            raise second
        return second

    return send


@pytest.mark.parametrize("status", [401, 400, 503])
async def test_a_failing_second_attempt_does_not_end_the_first(status: int) -> None:
    routed = router(Route(name="r", deployments=(deployment("a"), deployment("b")), hedge=HEDGE))
    assert await asked(routed, slow_first(asyncio.Event(), Refusing(status))) == "slow"


async def test_what_the_second_attempt_says_of_the_input_is_not_lost() -> None:
    gate = asyncio.Event()
    wide = Route(name="wide", deployments=(deployment("c"),))
    pair = (deployment("a"), deployment("b"))
    routed = router(Route(name="r", deployments=pair, hedge=HEDGE, context_fallbacks=("wide",)), wide)

    async def send(candidate: Candidate) -> str:
        if candidate.deployment.name == "c":
            return "wide"
        if candidate.deployment.name == "a":
            await gate.wait()
            raise Refusing(404)
        gate.set()
        raise Refusing(400, code="context_length_exceeded")

    assert await asked(routed, send) == "wide"


@pytest.mark.parametrize("priced", ["none", "one", "all"])
async def test_second_attempts_stay_in_their_bound_whatever_has_a_price(priced: str) -> None:
    """Also where an estimate says that calls take no tokens."""
    other = Route(name="other", deployments=(deployment("b"),))
    hedge = Hedge(after=0.001, max_share=0.1)

    def cost(each: Deployment, asked: int, given: int) -> float | None:
        return (asked + given) * 1e-5 if priced == "all" or (priced == "one" and each.name == "b") else None

    routed = router(
        Route(name="r", deployments=(deployment("a"),), fallbacks=("other",), hedge=hedge), other, cost=cost
    )
    seconds = 0
    for _ in range(20):
        gate = asyncio.Event()

        async def send(candidate: Candidate, gate: asyncio.Event = gate) -> str:
            nonlocal seconds
            if candidate.deployment.name == "b":
                seconds += 1
                gate.set()
                return "second"
            try:
                async with asyncio.timeout(0.02):
                    await gate.wait()
            except TimeoutError:
                pass
            return "first"

        await asked(routed, send)
    assert seconds <= 2


async def test_who_was_given_up_is_in_the_log_of_attempts() -> None:
    routed = router(Route(name="r", deployments=(deployment("a"), deployment("b")), hedge=HEDGE))
    ask = Ask("r")

    async def send(candidate: Candidate) -> str:
        if candidate.deployment.name == "a":
            await asyncio.Event().wait()
        return candidate.deployment.name

    won: LeasedAnswer[str] = await routed.route(ask, send, nothing)
    won.lease.abandoned()
    assert won.value == "b"
    assert [(each["deployment"], each["why"]) for each in ask.attempts.tried] == [("a", "cancelled")]
