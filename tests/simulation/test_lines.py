"""Who waits for a deployment, and what wakes them: limits, circuits, other loops, second looks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.catalog.model import Breaker, Catalog, Deployment, Hedge, Route
from superstep.providers.routing.deployment_state import DeploymentState, Waiter
from superstep.providers.routing.router import Ask, LeasedAnswer, Router
from superstep.runtime.faults import ProviderExhausted
from tests.simulation.clock import run_virtual

if TYPE_CHECKING:
    from superstep.providers.routing.candidates import Candidate


class Refusing(Exception):
    """What an SDK raises for a status."""

    def __init__(self, status: int) -> None:
        self.status_code = status


def deployment(name: str, **more: Any) -> Deployment:
    return Deployment(name=name, provider="offline", model="m", **{"retries": 0, **more})


def router(*routes: Route) -> Router:
    return Router(Catalog(routes={route.name: route for route in routes}), cost=lambda *_: None)


async def at_once(_: Candidate) -> str:
    return "answer"


async def nothing(_: str) -> None:
    """No answer of these tests needs closing."""


async def held(routed: Router, route: str = "r", tokens: int = 0) -> LeasedAnswer[str]:
    """An answer whose lease is not ended yet."""
    won: LeasedAnswer[str] = await routed.route(Ask(route, tokens), at_once, nothing)
    return won


def now() -> float:
    return asyncio.get_running_loop().time()


def test_who_is_woken_and_gives_up_passes_it_on() -> None:
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),)))

    async def main() -> None:
        first = await held(routed)
        gives_up, waits = asyncio.create_task(held(routed)), asyncio.create_task(held(routed))
        await asyncio.sleep(1.0)
        first.lease.abandoned()
        gives_up.cancel()
        ended = now()
        (await waits).lease.abandoned()
        assert now() == ended

    run_virtual(main())


def test_an_end_between_a_look_and_standing_in_line_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread's call may end there."""
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),)))
    enqueue = DeploymentState.enqueue

    async def main() -> None:
        first = await held(routed)

        def late(state: DeploymentState, waiter: Waiter, *, timed: bool) -> None:
            first.lease.abandoned()
            enqueue(state, waiter, timed=timed)

        monkeypatch.setattr(DeploymentState, "enqueue", late)
        began = now()
        (await held(routed)).lease.abandoned()
        assert now() == began

    run_virtual(main())


def test_who_waits_in_a_loop_that_was_closed_is_in_nobodys_way() -> None:
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1),)))
    lost: list[asyncio.Task[LeasedAnswer[str]]] = []

    def close_around_it() -> None:
        loop = asyncio.new_event_loop()

        async def main() -> None:
            lost.append(loop.create_task(held(routed)))
            while not routed.states["a"].waiting:  # noqa: ASYNC110 - nothing tells a test
                await asyncio.sleep(0)

        loop.run_until_complete(main())
        loop.close()

    async def main() -> None:
        first = await held(routed)
        thread = threading.Thread(target=close_around_it)
        thread.start()
        thread.join()
        first.lease.abandoned()
        (await held(routed)).lease.abandoned()

    run_virtual(main())
    assert routed.states["a"].waiting == 0
    lost[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_tokens_that_a_call_did_not_take_let_another_begin_at_once() -> None:
    routed = router(Route(name="r", deployments=(deployment("a", tpm=1000),), patience=120.0))

    async def main() -> None:
        first = await held(routed, tokens=900)
        waiting = asyncio.create_task(held(routed, tokens=900))
        await asyncio.sleep(1.0)
        first.lease.answered(now(), tokens=10, output_tokens=1)
        ended = now()
        (await waiting).lease.abandoned()
        assert now() == ended

    run_virtual(main())


def test_who_waits_for_a_limit_does_not_keep_a_slot_from_those_behind() -> None:
    """The first in line is too large for what is left of the minute, and waits on for another deployment as well."""
    limited = deployment("a", concurrency=1, tpm=1000)
    both = Route(name="both", deployments=(limited, deployment("b", concurrency=1)), patience=30.0)
    routed = router(both, Route(name="r", deployments=(limited,), patience=10.0))

    async def main() -> None:
        leases = [(await held(routed, "both", tokens=900)).lease, (await held(routed, "both")).lease]
        large = asyncio.create_task(held(routed, "both", tokens=900))
        await asyncio.sleep(1.0)
        small = asyncio.create_task(held(routed, tokens=10))
        await asyncio.sleep(1.0)
        leases[0].answered(now(), tokens=900, output_tokens=1)
        ended = now()
        (await small).lease.abandoned()
        assert now() == ended
        leases[1].abandoned()
        (await large).lease.abandoned()

    run_virtual(main())


def test_who_waits_again_has_its_old_place() -> None:
    """Its attempt failed, and others have come to wait meanwhile."""
    routed = router(Route(name="r", deployments=(deployment("a", concurrency=1, retries=1),), patience=60.0))
    served: list[str] = []

    async def call(name: str, *, fails: bool) -> None:
        async def send(_: Candidate) -> str:
            served.append(name)
            await asyncio.sleep(5.0)
            if fails and served.count(name) == 1:
                raise Refusing(503)
            return name

        won: LeasedAnswer[str] = await routed.route(Ask("r"), send, nothing)
        won.lease.abandoned()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(["first", "fails", "third", "fourth", "fifth"]):
                group.create_task(call(name, fails=name == "fails"))
                await asyncio.sleep(0.1 * number)

    run_virtual(main())
    assert served == ["first", "fails", "third", "fails", "fourth", "fifth"]


def test_an_end_wakes_no_crowd_at_a_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many wait for a probe, while calls from before the circuit opened end one after the other."""
    breaker = Breaker(failures=1, cooldown=1.0)
    routed = router(Route(name="r", deployments=(deployment("a", breaker=breaker),), patience=60.0))
    woken = 0
    wake = Waiter.wake

    def counted(waiter: Waiter) -> None:
        nonlocal woken
        woken += 1
        wake(waiter)

    async def fail(_: Candidate) -> str:
        raise Refusing(503)

    async def main() -> None:
        nonlocal woken
        early = [await held(routed) for _ in range(50)]
        with pytest.raises(ProviderExhausted):
            await routed.route(Ask("r"), fail, nothing)
        await asyncio.sleep(1.5)
        probe = await held(routed)
        waiting = [asyncio.create_task(held(routed)) for _ in range(50)]
        await asyncio.sleep(1.0)
        monkeypatch.setattr(Waiter, "wake", counted)
        for won in early:
            won.lease.abandoned()
            await asyncio.sleep(0.001)
        assert woken <= 50
        probe.lease.answered(now(), tokens=0, output_tokens=1)
        for each in waiting:
            (await each).lease.abandoned()

    run_virtual(main())


def test_what_a_lost_second_attempt_was_told_does_not_end_the_call_later() -> None:
    """Its first answer, a stream, broke; the same call goes on with another deployment, which fails once."""
    deployments = (deployment("a"), deployment("b"), deployment("c", retries=1))
    routed = router(Route(name="r", deployments=deployments, hedge=Hedge(after=0.1, max_share=1.0)))
    asked: list[str] = []

    async def send(candidate: Candidate) -> str:
        asked.append(candidate.deployment.name)
        if asked[-1] == "b":
            raise Refusing(401)
        if asked == ["a", "b", "c"]:
            raise Refusing(503)
        await asyncio.sleep(1.0)
        return candidate.deployment.name

    async def main() -> None:
        (await held(routed)).lease.abandoned()  # pays for the second attempt
        ask = Ask("r")
        won: LeasedAnswer[str] = await routed.route(ask, send, nothing)
        won.lease.abandoned()
        ask.without |= {"a", "b"}
        won = await routed.route(ask, send, nothing)
        won.lease.abandoned()
        assert won.value == "c"

    run_virtual(main())
