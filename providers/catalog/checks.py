"""What can only be checked with all routes at hand: names that lead nowhere, circles, prices that must be known."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from superstep.providers.catalog.values import Spot, did_you_mean
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from superstep.providers.catalog.model import Catalog, Deployment, Price, Route
    from superstep.providers.catalog.values import Locator

__all__ = ["check_prices", "check_routes"]

_FALLBACKS = ("fallbacks", "context_fallbacks", "content_fallbacks")


def check_routes(routes: Mapping[str, Route], place: Locator) -> None:
    """Check that every route named by another exists, and that neither fallbacks nor rules lead in a circle.

    A rule and a fallback may point at each other: rules look at the request, and only once; fallbacks at failures.

    Raises:
        ConfigError: One does not, or they do.
    """
    for route in routes.values():
        spot = Spot(("models", route.name), place)
        for key in _FALLBACKS:
            for index, name in enumerate(getattr(route, key)):
                _require(name, routes, spot / key / index)
        for index, rule in enumerate(route.rules):
            _require(rule.route, routes, spot / "rules" / index / "route")
    if circle := _circle({route.name: _fallbacks(route) for route in routes.values()}):
        key = next(key for key in _FALLBACKS if circle[1] in getattr(routes[circle[0]], key))
        raise Spot(("models", circle[0], key), place).wrong(
            f"lead in a circle: {' → '.join(circle)}. A call that none can answer would never end. Take one out."
        )
    if circle := _circle({route.name: [rule.route for rule in route.rules] for route in routes.values()}):
        raise Spot(("models", circle[0], "rules"), place).wrong(
            f"send in a circle: {' → '.join(circle)}. Take one out."
        )


def _require(name: str, routes: Mapping[str, Route], spot: Spot) -> None:
    if name not in routes:
        raise spot.wrong(f"names a route that does not exist. {did_you_mean(name, list(routes))}")


def _fallbacks(route: Route) -> list[str]:
    return [name for key in _FALLBACKS for name in getattr(route, key)]


def _circle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Names along a circle, the first one again at the end; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # listed from predecessor to successor, which is from the end back
    return []


def check_prices(catalog: Catalog, price_of: Callable[[Deployment], Price | None]) -> None:
    """Check that a price is known wherever the configuration relies on one.

    Args:
        catalog: With all of its routes and budgets.
        price_of: The price of a deployment, `None` if it is not known.

    Raises:
        ConfigError: A route chooses by cost, or a budget counts dollars, and a deployment it concerns has no price.
    """
    everywhere = next(
        (
            f"the budget of a {scope} counts US dollars"
            for scope, budget in (("run", catalog.run_budget), ("thread", catalog.thread_budget))
            if budget and budget.usd is not None
        ),
        None,
    )
    for route in [*catalog.routes.values(), *([catalog.catch_all] if catalog.catch_all else [])]:
        if everywhere or route.strategy == "lowest-cost":
            _require_prices(route, everywhere or f"route {route.name} chooses by lowest cost", price_of)
        if route.budget and route.budget.usd is not None:
            for answering in catalog.reachable(route):
                _require_prices(answering, f"the budget of route {route.name} counts US dollars", price_of)


def _require_prices(route: Route, reason: str, price_of: Callable[[Deployment], Price | None]) -> None:
    for deployment in route.deployments:
        if price_of(deployment) is None:
            raise ConfigError(
                f"{deployment.where}: the price of its model is unknown, but {reason}. Give the deployment "
                "price = { input = …, output = … }, in US dollars per million tokens."
            )
