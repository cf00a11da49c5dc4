"""A schedule of deployments, troubles and calls, all drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import get_args

from superstep.providers.catalog.model import Breaker, Catalog, Deployment, Hedge, Price, Route, Strategy

__all__ = ["ScheduledCall", "Server", "Schedule", "Spell", "Trouble", "draw"]

HORIZON = 150.0  # seconds in which calls arrive


class Trouble(Enum):
    """What is wrong with a deployment for a while."""

    OUTAGE = "connections fail"
    BROKEN = "status 503"
    STORM = "status 429 with retry-after"
    QUOTA = "status 429 with code insufficient_quota"
    GONE = "status 404"
    REVOKED = "status 401"
    SLOW = "twenty times slower"
    HANG = "no answer at all"
    GARBLED = "answers that cannot be read"
    CRANKY = "every second call fails with status 500"


@dataclass(frozen=True, slots=True)
class Spell:
    """A trouble from `start` to `end`, seconds since the schedule began."""

    trouble: Trouble
    start: float
    end: float
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A deployment as its provider sees it.

    Attributes:
        deployment: as configured.
        latency: seconds of a usual answer.
        window: tokens of input that the model takes.
        squeamish: refuses touchy content.
        spells: when it is in trouble.
    """

    deployment: Deployment
    latency: float
    window: int
    squeamish: bool
    spells: tuple[Spell, ...]

    @property
    def steady(self) -> bool:
        """Never in trouble and without limits: whoever asks it is answered."""
        limits = (self.deployment.rpm, self.deployment.tpm, self.deployment.concurrency)
        return not self.spells and limits == (None, None, None)


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """One call.

    Attributes:
        at: when it is made, seconds since the schedule began.
        input_tokens: of its messages, as estimated.
        output_tokens: its limit, as estimated.
        given: tokens of the answer.
        bad: a request that every provider rejects.
        touchy: content that some models refuse.
        cancelled_after: seconds until its caller gives up.
        read: seconds from the first token to the last.
        breaks: the stream breaks after its first token.
    """

    at: float
    input_tokens: int
    output_tokens: int
    given: int
    bad: bool
    touchy: bool
    cancelled_after: float | None
    read: float
    breaks: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that happens, but for what the router decides."""

    seed: int
    catalog: Catalog
    servers: dict[str, Server]
    calls: tuple[ScheduledCall, ...]
    cleanup: float  # seconds that closing a connection takes


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    priced, hedged = rng.random() < 0.5, rng.random() < 0.4
    main = [_server(rng, f"main/{n}", priced=priced) for n in range(rng.randint(1, 4))]
    spare = [_server(rng, f"spare/{n}", priced=priced) for n in range(rng.randint(0, 2))]
    wide = [replace(_server(rng, f"wide/{n}", priced=priced), window=100_000) for n in range(rng.randint(0, 2))]
    lenient = [replace(_server(rng, "lenient/0", priced=priced), squeamish=False)] if rng.random() < 0.5 else []
    named = {"main": main, "spare": spare, "wide": wide, "lenient": lenient}
    servers = {server.deployment.name: server for group in named.values() for server in group}
    return Schedule(
        seed=seed,
        catalog=Catalog(routes=_routes(rng, {name: group for name, group in named.items() if group}, hedged=hedged)),
        servers=servers,
        calls=tuple(_call(rng) for _ in range(rng.randint(8, 30))),
        cleanup=rng.choice([0.0, 0.0, 0.05, 0.5]),
    )


def _routes(rng: random.Random, named: dict[str, list[Server]], *, hedged: bool) -> dict[str, Route]:
    def route(name: str, **others: tuple[str, ...]) -> Route:
        return Route(
            name=name,
            deployments=tuple(server.deployment for server in named[name]),
            strategy=rng.choice(get_args(Strategy)),
            patience=rng.choice([0.0, 5.0, 10.0, 30.0]),
            **others,  # type: ignore[arg-type]
        )

    def present(*names: str) -> tuple[str, ...]:
        return tuple(name for name in names if name in named)

    routes = {name: route(name) for name in named}
    routes["main"] = route(
        "main",
        fallbacks=present("spare"),
        # Both ways to the same deployments: through each other and directly.
        context_fallbacks=present("wide", "spare") if rng.random() < 0.8 else (),
        content_fallbacks=present("lenient", "wide"),
    )
    if "wide" in named and rng.random() < 0.5:
        routes["wide"] = replace(routes["wide"], fallbacks=present("spare"))
    if hedged:
        hedge = Hedge(after=rng.choice([0.5, 2.0, 5.0]), max_share=rng.choice([0.1, 0.3, 1.0]))
        routes["main"] = replace(routes["main"], hedge=hedge)
    return routes


def _server(rng: random.Random, name: str, *, priced: bool) -> Server:
    tight = rng.random() < 0.3
    deployment = Deployment(
        name=name,
        provider="offline",
        model=name,
        weight=rng.choice([0.5, 1.0, 3.0]),
        rpm=rng.randint(2, 20) if tight else None,
        tpm=rng.choice([None, 500, 5_000]) if tight else None,
        concurrency=rng.randint(1, 4) if rng.random() < 0.3 else None,
        timeout=rng.choice([5.0, 20.0]),
        retries=rng.randint(0, 3),
        price=Price(rng.uniform(0.1, 5.0), rng.uniform(0.5, 20.0)) if priced else None,
        breaker=Breaker(failures=rng.randint(1, 5), cooldown=rng.choice([1.0, 5.0]), longest=rng.choice([5.0, 40.0])),
    )
    return Server(
        deployment=deployment,
        latency=rng.uniform(0.2, 2.0),
        window=rng.choice([1_000, 100_000]),
        squeamish=rng.random() < 0.5,
        spells=tuple(_spell(rng) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))),
    )


def _spell(rng: random.Random) -> Spell:
    usual = [each for each in Trouble if each is not Trouble.REVOKED]
    trouble = Trouble.REVOKED if rng.random() < 0.03 else rng.choice(usual)
    start = rng.uniform(0.0, HORIZON)
    retry_after = rng.choice([None, 0.0, 1.0, 8.0, 25.0]) if trouble is Trouble.STORM else None
    return Spell(trouble, start, start + rng.uniform(5.0, 60.0), retry_after)


def _call(rng: random.Random) -> ScheduledCall:
    at = rng.uniform(0.0, HORIZON) if rng.random() < 0.6 else 20.0 * rng.randint(0, 5)  # alone, or in a burst
    return ScheduledCall(
        at=at,
        input_tokens=rng.choice([10, 100, 400, 3_000]),
        output_tokens=rng.choice([0, 50, 300]),
        given=rng.randint(0, 400),
        bad=rng.random() < 0.03,
        touchy=rng.random() < 0.05,
        cancelled_after=round(rng.uniform(0.0, 15.0), 1) if rng.random() < 0.15 else None,
        read=rng.choice([0.0, 0.0, 0.5, 3.0]),
        breaks=rng.random() < 0.03,
    )
