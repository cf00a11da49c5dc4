"""What can only be checked with all routes at hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from superstep.providers.catalog.checks import check_prices
from superstep.providers.catalog.from_env import catalog_from_env
from superstep.providers.catalog.model import Budget, Price
from superstep.runtime.faults import ConfigError
from tests.providers.catalog.tables import SECRET, complaint, parse, routes

PRICED, UNPRICED = Price(1.0, 2.0), None


def test_names_of_routes_must_exist() -> None:
    assert "@models/a/fallbacks/1 names a route" in complaint(routes(a='fallbacks = ["b", "bb"]', b=""))
    assert "Did you mean fast?" in complaint(routes(a='context_fallbacks = ["fasst"]', fast=""))
    assert "@models/a/content_fallbacks/0" in complaint(routes(a='content_fallbacks = ["zzz"]', b=""))
    message = complaint(routes(a='rules = [{ route = "zzz", tags = ["t"] }]', b=""))
    assert "@models/a/rules/0/route names a route that does not exist. Known: a, b." in message


def test_fallbacks_must_not_run_in_circles_of_whatever_kind() -> None:
    assert "@models/a/fallbacks lead in a circle: a → a." in complaint(routes(a='fallbacks = ["a"]'))
    message = complaint(
        routes(a='fallbacks = ["b"]', b='context_fallbacks = ["c"]', c='content_fallbacks = ["d", "a"]', d="")
    )
    circle = re.search(r"circle: (\w) → (\w) → (\w) → (\w)\.", message)
    assert circle is not None
    assert "".join(circle.groups()) in ("abca", "bcab", "cabc")
    first = circle.group(1)
    assert {"a": "a/fallbacks", "b": "b/context_fallbacks", "c": "c/content_fallbacks"}[first] in message
    # Two ways to the same route are no circle.
    assert (
        len(parse(routes(a='fallbacks = ["b", "c"]', b='fallbacks = ["d"]', c='fallbacks = ["d"]', d="")).routes) == 4
    )


def test_rules_must_not_send_in_circles_but_may_point_at_a_route_that_falls_back_here() -> None:
    there = 'rules = [{ route = "b", tags = ["t"] }]'
    message = complaint(routes(a=there, b='rules = [{ route = "a", max_input_tokens = 9 }]'))
    assert re.search(r"rules send in a circle: (a → b → a|b → a → b)\.", message)
    assert len(parse(routes(a=there, b='fallbacks = ["a"]')).routes) == 2


@pytest.mark.parametrize(
    "text",
    [
        routes(a='strategy = "lowest-cost"'),
        routes(a="budget = { usd = 1 }"),
        routes(a="budget = { usd = 1 }") + "\n[budgets]\nrun = { tokens = 1 }",
        routes(a="") + "\n[budgets]\nrun = { usd = 1 }",
        routes(a="") + "\n[budgets]\nthread = { usd = 1 }",
    ],
)
def test_prices_must_be_known_where_somebody_relies_on_them(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^@models/a/deployments/0: the price of its model is unknown, but .*price ="
    ):
        check_prices(parse(text), lambda _: UNPRICED)
    check_prices(parse(text), lambda _: PRICED)


def test_prices_may_be_unknown_elsewhere() -> None:
    check_prices(parse(routes(a="budget = { tokens = 1 }", b='fallbacks = ["a"]')), lambda _: UNPRICED)
    both = parse(routes(a='strategy = "lowest-cost"', b='fallbacks = ["a"]'))
    check_prices(both, lambda deployment: PRICED if deployment.name.startswith("a/") else UNPRICED)


def test_a_budget_in_dollars_needs_the_prices_of_whoever_may_answer() -> None:
    ways = ('fallbacks = ["b"]', 'context_fallbacks = ["b"]', 'rules = [{ route = "b", tags = ["t"] }]')
    for way in ways:
        catalog = parse(routes(a=f"budget = {{ usd = 1 }}, {way}", b='content_fallbacks = ["c"]', c=""))
        with pytest.raises(ConfigError, match=r"@models/c/deployments/0.*budget of route a counts US dollars"):
            check_prices(catalog, lambda each: UNPRICED if each.name.startswith("c/") else PRICED)


def test_prices_are_checked_for_routes_of_the_environment_too() -> None:
    catalog = replace(catalog_from_env({"OPENAI_API_KEY": SECRET}), run_budget=Budget(usd=1))
    with pytest.raises(ConfigError, match="OPENAI_MODEL") as caught:
        check_prices(catalog, lambda _: UNPRICED)
    assert SECRET not in str(caught.value)
