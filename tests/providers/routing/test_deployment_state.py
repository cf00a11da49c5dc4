"""Calls that wait for a slot: the router over deployments that are functions of the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from superstep.providers.catalog.model import Route
from superstep.providers.routing.router import Ask, LeasedAnswer, Router
from superstep.runtime.faults import ProviderExhausted
from tests.providers.routing.deployments import asked, deployment, nothing, router

if TYPE_CHECKING:
    from superstep.providers.routing.candidates import Candidate


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
