"""Which deployments may serve a call, in which order. Pure, but for the states it passes along."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.providers.policy.failures import Action
from superstep.providers.policy.strategies import order
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from superstep.providers.catalog.model import Catalog, Deployment, Route
    from superstep.providers.policy.failures import Failure
    from superstep.providers.routing.deployment_state import DeploymentState

__all__ = ["Candidate", "candidates", "find_route", "reachable", "ruled"]


@dataclass(slots=True, eq=False)
class Candidate:
    """A deployment that one call may ask.

    Attributes:
        deployment: as configured.
        route: the route it stands for, whose settings apply: of a fallback, the fallback's.
        state: its circuit, limits and slots, shared by all calls of the process.
        requests: how many requests the call has sent to it.
        exhausted: it failed for good, or as often as its `retries` allow: the call sends no more.
        verdict: what its latest failure asks for, until that is done.
    """

    deployment: Deployment
    route: Route
    state: DeploymentState
    requests: int = 0
    exhausted: bool = False
    verdict: Action | None = None

    def failed(self, failure: Failure) -> None:
        """The latest request failed."""
        self.verdict = failure.action
        self.exhausted = failure.action is not Action.RETRY or self.requests > self.deployment.retries


def find_route(catalog: Catalog, name: str) -> Route:
    """The route of that name.

    Raises:
        ConfigError: there is none.
    """
    route = catalog.routes.get(name) or catalog.catch_all
    if route is not None:
        return route
    close = difflib.get_close_matches(name, catalog.routes, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known routes: {', '.join(sorted(catalog.routes))}."
    raise ConfigError(f"There is no model route {name!r}. {hint} Routes are the tables [models.NAME] of runtime.toml.")


def ruled(catalog: Catalog, name: str, tags: frozenset[str], input_tokens: int) -> Route:
    """The route that the rules of the named one send this call to. Rules never run in circles (checked when read)."""
    route = find_route(catalog, name)
    while True:
        for rule in route.rules:
            if rule.tags <= tags and (rule.max_input_tokens is None or input_tokens <= rule.max_input_tokens):
                route = catalog.routes[rule.route]
                break
        else:
            return route


def candidates(
    catalog: Catalog,
    route: Route,
    state: Callable[[Deployment], DeploymentState],
    *,
    without: frozenset[str],
    now: float,
    rng: random.Random,
    cost: Callable[[Deployment], float | None],
) -> list[Candidate]:
    """The deployments of a route in the order of its strategy, then those of its fallbacks; each once."""
    found: dict[str, Candidate] = {}
    waiting, known = [route], {route.name}
    while waiting:
        here = waiting.pop(0)
        pairs = [(deployment, state(deployment).health) for deployment in here.deployments]
        for deployment in order(here.strategy, pairs, now=now, rng=rng, cost=cost):
            if deployment.name not in without:
                found.setdefault(deployment.name, Candidate(deployment, here, state(deployment)))
        for name in here.fallbacks:
            if name not in known:
                known.add(name)
                waiting.append(catalog.routes[name])
    return list(found.values())


def reachable(catalog: Catalog, route: Route) -> list[Deployment]:
    """Every deployment that may answer a call of the route: its own, and those of its rules and fallbacks."""
    return [deployment for each in catalog.reachable(route) for deployment in each.deployments]
