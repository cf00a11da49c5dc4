"""What must hold when a schedule has run: nothing lost, nothing leaked, every error complete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from superstep.providers.policy.backoff import LONGEST
from superstep.providers.policy.failures import Action
from superstep.runtime.faults import ProviderExhausted, ProviderRejected
from tests.simulation.clock import run_virtual
from tests.simulation.world import World, cost

if TYPE_CHECKING:
    from tests.simulation.schedules import Schedule
    from tests.simulation.world import Made, ProviderRequest

__all__ = ["judge", "simulate"]


def simulate(schedule: Schedule) -> World:
    """Run a schedule and check everything.

    Raises:
        AssertionError: a promise of the router was broken; the note says by which seed.
    """
    try:
        return run_virtual(_run(schedule))
    except* Exception as group:
        group.add_note(f"seed {schedule.seed}: `python -m tests.simulation {schedule.seed}` shows it")
        raise


async def _run(schedule: Schedule) -> World:
    world = World(schedule)
    await world.run()
    judge(world)
    return world


def judge(world: World) -> None:
    """Check a world in which every call has ended."""
    assert not world.broken, "\n".join(world.broken[:5])
    assert len(world.made) == len(world.schedule.calls)
    for made in world.made:
        _check_end(world, made)
        _check_order(made)
        _check_patience(world, made)
    _check_hedging(world)
    _check_leaks(world)


def _check_end(world: World, made: Made) -> None:
    """Each call ends with an answer, with an error that names everything, or because its caller gave up."""
    assert made.ended is not None
    answers = [each for each in made.attempts if each.answered and each is not made.won]
    assert all(each.left is not None for each in answers), "an answer that came too late was not discarded"
    if isinstance(made.error, asyncio.CancelledError):
        assert made.cancelled_at is not None, "a call was cancelled by nobody"
        assert made.ended <= made.cancelled_at + world.schedule.cleanup + 1e-6, "a cancelled call went on"
    elif made.won is not None:
        assert made.error is None
        assert made.won.answered
    else:
        assert isinstance(made.error, ProviderExhausted), f"call {made.number} ended with {made.error!r}"
        _check_error(world, made, made.error)


def _check_error(world: World, made: Made, error: ProviderExhausted) -> None:
    stopped = any(each.failure is not None and each.failure.action is Action.STOP for each in made.attempts)
    assert isinstance(error, ProviderRejected) is stopped, "rejected, although no provider said so, or not although"
    named = [each["deployment"] for each in error.tried]
    failed = [each for each in made.attempts if each.failure is not None]
    assert len(error.exceptions) == len(failed) or not failed
    for name in {each.name for each in failed}:
        asked = sum(each.name == name for each in failed)
        assert named.count(name) >= asked, f"the error does not name all {asked} attempts on {name}"
    if stopped:
        return
    routes = world.schedule.catalog.routes
    for name in ("main", *routes["main"].fallbacks):
        for deployment in routes[name].deployments:
            instead = {each.failure.action for each in failed if each.failure is not None}
            diverted = instead & {Action.CONTEXT, Action.CONTENT}
            assert deployment.name in named or diverted, f"the error does not say why {deployment.name} was left"
            plain = not (made.call.bad or diverted)
            assert not (world.schedule.servers[deployment.name].steady and plain), (
                f"{deployment.name} would have answered"
            )


def _check_order(made: Made) -> None:
    """A deployment is left only after it failed; only a hedge begins earlier."""
    for earlier, later in zip(made.attempts, made.attempts[1:], strict=False):
        overlapped = earlier.ended is None or earlier.ended > later.began
        assert not overlapped or made.ask.attempts.hedged, "a second request began before the first one had ended"


def _check_patience(world: World, made: Made) -> None:
    """No call waits longer than its route's patience, but for the pauses between attempts."""
    assert made.ended is not None
    first = made.attempts[0].began if made.attempts else made.ended
    idle, busy_until = first - made.began, first
    for attempt in made.attempts:
        idle += max(0.0, attempt.began - busy_until)
        busy_until = max(busy_until, attempt.ended or 0.0)
    retried = sum(each.failure is not None and each.failure.action is Action.RETRY for each in made.attempts)
    allowed = world.schedule.catalog.routes["main"].patience + retried * 1.1 * LONGEST
    assert idle <= allowed + 1e-6, f"call {made.number} waited {idle:.1f} s"


def _check_hedging(world: World) -> None:
    """Second attempts cost no more than their share of first ones, at any time."""
    hedge = world.schedule.catalog.routes["main"].hedge
    bank = world.router._banks.get("main")
    if hedge is None or bank is None:
        assert not any(made.ask.attempts.hedged for made in world.made)
        return
    assert bank.spent <= hedge.max_share * bank.earned
    main = world.schedule.catalog.routes["main"].deployments
    every = sorted((each for made in world.made for each in made.attempts), key=lambda each: each.began)
    if any(server.deployment.retries for server in world.schedule.servers.values()):
        return  # a retry of the first that overlaps the second cannot be told from a hedge
    first = second = 0.0
    for attempt in every:
        if _is_second(attempt):
            second += _stake(world, attempt)
        elif attempt.name in {each.name for each in main}:
            first += _stake(world, attempt)
        assert second <= hedge.max_share * first + 1e-9, "hedging spent more than its share"


def _is_second(attempt: ProviderRequest) -> bool:
    others = (each for each in attempt.made.attempts if each is not attempt and each.began < attempt.began)
    return any(each.ended is None or each.ended > attempt.began for each in others)


def _stake(world: World, attempt: ProviderRequest) -> float:
    server, ask = world.schedule.servers[attempt.name], attempt.made.ask
    return cost(server.deployment, ask.input_tokens, ask.output_tokens) or 1.0


def _check_leaks(world: World) -> None:
    """Nothing is held for calls that have ended."""
    now = world.now()
    for name, attempts in world.attempts.items():
        assert all(each.ended is not None and each.left is not None for each in attempts)
        state = world.router.state(world.schedule.servers[name].deployment)
        assert state.health.in_flight == 0, f"{name} has {state.health.in_flight} slots that nobody will give back"
        longest = state.deployment.breaker.longest
        assert state.breaker.permits(now + longest + 1.0), f"the circuit of {name} will never let anybody through"
        assert not state.waiting, f"somebody still waits for {name}"
    assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks are left over"
