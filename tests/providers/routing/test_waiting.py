"""Calls that wait for a slot, and second attempts: the router over deployments that are functions of the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.catalog.model import Catalog, Deployment, Hedge, Route
from superstep.providers.routing.router import Ask, LeasedAnswer, Router
from superstep.runtime.faults import ProviderExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.routing.candidates import Candidate


class Refusing(Exception):
    """What an SDK raises for a status."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(str(status))
        self.status_code = status
        self.code = code


def deployment(name: str, **more: Any) -> Deployment:
    return Deployment(name=name, provider="offline", model="m", **{"retries": 0, **more})


def router(*routes: Route, cost: Callable[[Deployment, int, int], float | None] = lambda *_: None) -> Router:
    return Router(Catalog(routes={route.name: route for route in routes}), cost=cost)


async def nothing(_: str) -> None:
    """No answer of these tests needs closing."""


async def asked(routed: Router, send: Callable[[Candidate], Any], **ask: Any) -> str:
    won: LeasedAnswer[str] = await routed.route(Ask("r", **ask), send, nothing)
    won.lease.abandoned()
    return won.value


async def waiting_in(routed: Router, calls: int) -> None:
    """Let others run until so many of them wait for deployment "a"."""
    while "a" not in routed.states or routed.states["a"].waiting < calls:  # noqa: ASYNC110 - nothing tells a test
        await asyncio.sleep(0)


async def test_who_waits_for_a_slot_is_served_in_order_of_arrival() -> None:
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),)))
    gate, served = asyncio.Event(), list[int]()

    async def call(number: int) -> None:
        async def send(_: Candidate) -> str:
            served.append(number)
            await gate.wait()
            return "answer"

        await asked(routed, send)

    calls = [asyncio.create_task(call(number)) for number in range(50)]
    await waiting_in(routed, 49)
    calls[10].cancel()
    gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert served == [number for number in range(50) if number != 10]
    assert (routed.states["a"].waiting, routed.states["a"].health.in_flight) == (0, 0)


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    """The first call's end frees the slot, and another call comes by before the one that waits has woken up."""
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),)))
    served: list[str] = []

    async def send_as(name: str) -> str:
        async def send(_: Candidate) -> str:
            served.append(name)
            return name

        return await asked(routed, send)

    first: LeasedAnswer[str] = await routed.route(Ask("r"), lambda _: asyncio.sleep(0, "first"), nothing)
    waiting = asyncio.create_task(send_as("waiting"))
    await waiting_in(routed, 1)
    first.lease.abandoned()
    await asyncio.gather(send_as("newcomer"), waiting)
    assert served == ["waiting", "newcomer"]


async def test_a_call_that_finds_another_deployment_does_not_wait() -> None:
    route = Route(name="r", deployments=(deployment("a", concurrency=1), deployment("b")))
    routed = router(route)
    held: LeasedAnswer[str] = await routed.route(Ask("r"), lambda _: asyncio.sleep(0, "held"), nothing)
    assert await asked(routed, lambda candidate: asyncio.sleep(0, candidate.deployment.name)) == "b"
    held.lease.abandoned()


async def test_patience_ends_and_leaves_no_place_taken() -> None:
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),), patience=0.01))
    held: LeasedAnswer[str] = await routed.route(Ask("r"), lambda _: asyncio.sleep(0, "held"), nothing)
    with pytest.raises(ProviderExhausted, match="all slots taken"):
        await asked(routed, lambda _: asyncio.sleep(0, "never"))
    assert routed.states["a"].waiting == 0
    held.lease.abandoned()


# -- second attempts ---------------------------------------------------------------------------------------------

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


async def test_who_was_given_up_is_in_the_trail() -> None:
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
