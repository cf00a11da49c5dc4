"""No strategy forgets a deployment: when a trouble ends, traffic comes back within a bound."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from superstep.providers.catalog.model import Breaker, Catalog, Deployment, Hedge, Price, Route, Strategy
from superstep.providers.policy.strategies import FADES
from tests.simulation.clock import START
from tests.simulation.schedules import Schedule, ScheduledCall, Server, Spell, Trouble
from tests.simulation.verdict import simulate

LONGEST = 40.0  # cooldown of the circuit
TIMEOUT = 5.0
TROUBLE = (20.0, 80.0)
LAST = 260.0

TROUBLES = [each for each in Trouble if each is not Trouble.REVOKED]  # a rejected key ends the call by design


def server(name: str, *, latency: float, price: float, spells: tuple[Spell, ...] = ()) -> Server:
    deployment = Deployment(
        name=name,
        provider="offline",
        model=name,
        timeout=TIMEOUT,
        price=Price(price, price),
        breaker=Breaker(failures=3, cooldown=2.0, longest=LONGEST),
    )
    return Server(deployment, latency=latency, window=100_000, squeamish=False, spells=spells)


def call(at: float) -> ScheduledCall:
    return ScheduledCall(at, 100, 100, 100, bad=False, touchy=False, cancelled_after=None, read=0.0, breaks=False)


def schedule(strategy: Strategy, trouble: Trouble, seed: int) -> Schedule:
    """Two calls a second on three deployments; the best of them, `a`, is in trouble for a minute."""
    spell = Spell(trouble, *TROUBLE, retry_after=8.0 if trouble is Trouble.STORM else None)
    servers = [
        server("a", latency=0.3, price=1.0, spells=(spell,)),
        server("b", latency=0.9, price=2.0),
        server("c", latency=0.9, price=3.0),
    ]
    route = Route(name="main", strategy=strategy, deployments=tuple(each.deployment for each in servers))
    return Schedule(
        seed=seed,
        catalog=Catalog(routes={"main": route}),
        servers={each.deployment.name: each for each in servers},
        calls=tuple(call(n / 2) for n in range(int(2 * LAST))),
        cleanup=0.0,
    )


def times(schedule: Schedule) -> dict[str, list[float]]:
    """When each deployment was asked, seconds since the schedule began."""
    world = simulate(schedule)
    return {name: [each.began - START for each in attempts] for name, attempts in world.attempts.items()}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("strategy", ["order", "weighted", "least-busy", "lowest-latency", "lowest-cost"])
def test_traffic_comes_back_when_a_trouble_ends(strategy: Strategy, trouble: Trouble) -> None:
    asked = times(schedule(strategy, trouble, seed=1))
    ended = TROUBLE[1]
    # A probe that began just before the end may fail, and doubles the cooldown once more; a speed not known fades.
    bound = LONGEST + 2 * TIMEOUT + (FADES if strategy == "lowest-latency" else 0.0)
    back = [at for at in asked["a"] if at >= ended]
    assert back, "a was never asked again"
    assert back[0] <= ended + bound
    usual = {"weighted": 1 / 4, "least-busy": 1 / 4}.get(strategy, 3 / 4)
    lately = {name: sum(at > LAST - 60 for at in moments) for name, moments in asked.items()}
    assert lately["a"] >= usual * sum(lately.values()), f"a did not get its share back: {lately}"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strategy", ["weighted", "least-busy", "lowest-latency"])
def test_every_healthy_deployment_is_asked_again_and_again(strategy: Strategy, seed: int) -> None:
    for name, moments in times(schedule(strategy, Trouble.SLOW, seed)).items():
        if name == "a":
            continue
        gaps = [later - earlier for earlier, later in pairwise([0.0, *moments, LAST])]
        assert max(gaps) <= FADES + TIMEOUT, f"{name} was not asked for {max(gaps):.0f} s"


def test_a_slow_deployment_is_not_tried_more_often_than_needed() -> None:
    plan = schedule("lowest-latency", Trouble.SLOW, seed=3)
    slow = replace(plan.servers["a"], latency=3.0, spells=())
    asked = times(replace(plan, servers={**plan.servers, "a": slow}))
    assert 1 <= len(asked["a"]) <= LAST / FADES + 1


def test_a_second_attempt_is_one_request() -> None:
    """The first hangs and the second fails: it is not repeated on credit that was given for one request."""
    plan = schedule("order", Trouble.HANG, seed=4)
    broken = replace(plan.servers["b"], spells=(Spell(Trouble.BROKEN, 0.0, LAST),))
    hedged = replace(plan.catalog.routes["main"], hedge=Hedge(after=0.1, max_share=1.0))
    plan = replace(plan, catalog=Catalog(routes={"main": hedged}), servers={**plan.servers, "b": broken})
    world = simulate(replace(plan, calls=(call(0.0), call(21.0))))
    hanging = next(each for each in world.attempts["a"] if each.began > START + 20)
    assert hanging.ended is not None
    meanwhile = [each for each in world.attempts["b"] if hanging.began <= each.began < hanging.ended]
    assert len(meanwhile) == 1


def test_a_first_attempt_that_others_kept_out_earns_no_credit() -> None:
    """Two calls at once for one slot: only one is a first attempt there, and pays for hedging."""
    plan = schedule("order", Trouble.SLOW, seed=6)
    servers = {
        name: replace(each, latency=3.0, deployment=replace(each.deployment, retries=0, price=Price(1.0, 1.0)))
        for name, each in plan.servers.items()
    }
    servers["a"] = replace(servers["a"], deployment=replace(servers["a"].deployment, concurrency=1))
    deployments = tuple(each.deployment for each in servers.values())
    # A third of two first attempts does not pay for a second one; of three it would.
    route = replace(plan.catalog.routes["main"], deployments=deployments, hedge=Hedge(after=0.1, max_share=0.34))
    calls = (call(0.0), call(0.0))
    world = simulate(replace(plan, catalog=Catalog(routes={"main": route}), servers=servers, calls=calls))
    assert [len(world.attempts[name]) for name in "abc"] == [1, 1, 0]
    assert not any(made.ask.attempts.hedged for made in world.made)


def test_those_turned_away_together_do_not_come_back_together() -> None:
    storm = Spell(Trouble.STORM, 0.0, 3.0, retry_after=5.0)
    alone = server("a", latency=0.3, price=1.0, spells=(storm,))
    deployment = replace(alone.deployment, breaker=Breaker(failures=1000))
    route = Route(name="main", deployments=(deployment,))
    plan = Schedule(
        seed=5,
        catalog=Catalog(routes={"main": route}),
        servers={"a": replace(alone, deployment=deployment)},
        calls=tuple(call(0.0) for _ in range(20)),
        cleanup=0.0,
    )
    world = simulate(plan)
    again = [each.began for each in world.attempts["a"] if each.began > START]
    assert len(again) == 20
    assert len(set(again)) > 10, "all of them came back at once"
