"""Model routes, budgets and recording, from the tables of `runtime.toml`.

Every key is in one of the tables below, with the reader of its value. What each means is said by the dataclasses of
`providers.catalog.model` that they become, and in docs/models.md. Pure: gets parsed tables, and a `Locator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from superstep.providers.catalog.checks import check_routes
from superstep.providers.catalog.model import (
    Breaker,
    Budget,
    Catalog,
    Deployment,
    Hedge,
    Price,
    Provider,
    Recording,
    Route,
    Rule,
    Strategy,
    StructuredOutput,
)
from superstep.providers.catalog.values import (
    Reader,
    Spot,
    choice,
    flag,
    http_address,
    import_path,
    items,
    number,
    parameters,
    pattern,
    table,
    text,
    variable_name,
    whole,
    window,
)

if TYPE_CHECKING:
    from superstep.providers.catalog.values import Locator

__all__ = ["KEYS", "parse_models"]

seconds = number(unit="seconds")
seconds_or_0 = number(unit="seconds", zero=True)
usd = number(unit="US dollars")

_PRICE: dict[str, Reader] = {
    "input": number(unit="US dollars per million tokens", zero=True),
    "output": number(unit="US dollars per million tokens", zero=True),
}
_BREAKER: dict[str, Reader] = {"failures": whole(1), "cooldown": seconds, "longest": seconds}
_HEDGE: dict[str, Reader] = {"after": seconds, "max_share": number(most=1)}
_RULE: dict[str, Reader] = {"route": text, "tags": items(text), "max_input_tokens": whole(1)}
_SPEND: dict[str, Reader] = {"usd": usd, "tokens": whole(1)}
_ROUTE_SPEND: dict[str, Reader] = {**_SPEND, "window": window}


def _price(value: Any, spot: Spot) -> Price:
    return Price(**table(value, spot, _PRICE, "input", "output"))


def _breaker(value: Any, spot: Spot) -> Breaker:
    found = Breaker(**table(value, spot, _BREAKER))
    if found.longest < found.cooldown:
        raise spot.wrong(
            f"has longest ({found.longest:g} s) below cooldown ({found.cooldown:g} s). Correct one of them."
        )
    return found


def _hedge(value: Any, spot: Spot) -> Hedge:
    return Hedge(**table(value, spot, _HEDGE, "after"))


def _rule(value: Any, spot: Spot) -> Rule:
    found = table(value, spot, _RULE, "route")
    if not found.get("tags") and "max_input_tokens" not in found:
        raise spot.wrong("would send every call away: it has neither tags nor max_input_tokens. Add one of them.")
    return Rule(**{**found, "tags": frozenset(found.get("tags", ()))})


def _budget(value: Any, spot: Spot, readers: Mapping[str, Reader]) -> Budget:
    found = table(value, spot, readers)
    if not found.keys() & _SPEND.keys():
        raise spot.wrong("limits nothing. Give it usd, tokens, or both.")
    return Budget(**found)


_run_budget = partial(_budget, readers=_SPEND)

_DEPLOYMENT: dict[str, Reader] = {
    "provider": choice(*get_args(Provider)),
    "model": text,
    "path": import_path,
    "api_key_env": variable_name,
    "base_url": http_address,
    "parameters": parameters,
    "weight": number(),
    "rpm": whole(1),
    "tpm": whole(1),
    "concurrency": whole(1),
    "timeout": seconds,
    "first_token_timeout": seconds,
    "token_timeout": seconds,
    "retries": whole(0),
    "price": _price,
    "structured_output": choice(*get_args(StructuredOutput)),
    "breaker": _breaker,
}

# What a provider needs, and what means nothing to it. Elsewhere a key would look as if it did something.
_NEEDED = {
    "openai": ("model",),
    "anthropic": ("model",),
    "openai-compatible": ("model", "base_url"),
    "langchain": ("path",),
}
_MEANINGLESS = {
    "openai": ("path",),
    "anthropic": ("path",),
    "openai-compatible": ("path",),
    "offline": ("path", "api_key_env", "base_url", "parameters"),
}
_KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}

# Arguments of chat models that have a key of their own here.
_OWN_KEYS = {
    "model": "model",
    "model_name": "model",
    "base_url": "base_url",
    "openai_api_base": "base_url",
    "anthropic_api_url": "base_url",
    "timeout": "timeout",
    "request_timeout": "timeout",
    "default_request_timeout": "timeout",
    "stream_chunk_timeout": "token_timeout",
    "max_retries": "retries",
}
_CLIENTS = ("http_client", "http_async_client", "client", "async_client", "root_client", "root_async_client")


def _deployment(value: Any, spot: Spot) -> dict[str, Any]:
    found = table(value, spot, _DEPLOYMENT, "provider")
    provider = found["provider"]
    for key in _NEEDED.get(provider, ()):
        if key not in found:
            raise spot.wrong(f"lacks the key {key}, which provider {provider} needs. Add it.")
    for key in _MEANINGLESS.get(provider, ()):
        if key in found:
            raise (spot / key).wrong(f"means nothing to provider {provider}. Take it out.")
    for key in found.get("parameters", ()):
        if key in _OWN_KEYS and provider != "langchain":
            raise (spot / "parameters" / key).wrong(f"belongs beside parameters: write {_OWN_KEYS[key]} there.")
        if key in _CLIENTS and provider != "langchain":
            raise (spot / "parameters" / key).wrong("cannot come from a file. Write base_url and timeout instead.")
    defaults = {"model": {"offline": "offline"}.get(provider, ""), "api_key_env": _KEY_VARIABLES.get(provider)}
    return {**defaults, **found, "where": str(spot)}


_ROUTE: dict[str, Reader] = {
    "strategy": choice(*get_args(Strategy)),
    "deployments": items(_deployment),
    "fallbacks": items(text),
    "context_fallbacks": items(text),
    "content_fallbacks": items(text),
    "rules": items(_rule),
    "patience": seconds_or_0,
    "hedge": _hedge,
    "continue_text": flag,
    "budget": partial(_budget, readers=_ROUTE_SPEND),
}


def _route(name: str, value: Any, spot: Spot, taken: set[str]) -> Route:
    found = table(value, spot, _ROUTE)
    if not found.get("deployments"):
        raise spot.wrong(f"has no deployment to serve it. Add one under [[models.{name}.deployments]].")
    found["deployments"] = tuple(
        Deployment(name=_unique(f"{name}/{_title(each)}", taken), **each) for each in found["deployments"]
    )
    return Route(name=name, where=str(spot), **found)


def _title(deployment: Mapping[str, Any]) -> str:
    model = deployment["model"] or deployment["path"].partition(":")[2]
    return f"{deployment['provider']}:{model}"


def _unique(name: str, taken: set[str]) -> str:
    found, number_ = name, 1
    while found in taken:
        number_ += 1
        found = f"{name}#{number_}"
    taken.add(found)
    return found


_BUDGETS: dict[str, Reader] = {"run": _run_budget, "thread": _run_budget}
_RECORDING: dict[str, Reader] = {"content": flag, "redact": items(pattern)}

KEYS: dict[str, Mapping[str, Reader]] = {
    "models.NAME": _ROUTE,
    "models.NAME.deployments": _DEPLOYMENT,
    "models.NAME.deployments.price": _PRICE,
    "models.NAME.deployments.breaker": _BREAKER,
    "models.NAME.rules": _RULE,
    "models.NAME.hedge": _HEDGE,
    "models.NAME.budget": _ROUTE_SPEND,
    "budgets": _BUDGETS,
    "budgets.run": _SPEND,
    "budgets.thread": _SPEND,
    "recording": _RECORDING,
}


def parse_models(
    models: Mapping[str, Any], budgets: Mapping[str, Any], recording: Mapping[str, Any], *, place: Locator
) -> Catalog:
    """Make the catalog of the tables `[models]`, `[budgets]` and `[recording]`.

    Args:
        models: The tables of routes, by name.
        budgets: What runs and threads may spend.
        recording: What records of calls hold.
        place: Names the place of a value, given the keys and indices that lead to it: "runtime.toml, line 3:
            models.fast.deployments[0].rpm". Errors begin with it, and routes and deployments keep theirs.

    Returns:
        The catalog. Without `models` it has no routes. That key variables are set is not checked: a route may have
        deployments whose keys only another machine has.

    Raises:
        ConfigError: Anything is wrong. Of texts, no message holds more than the names of routes.
    """
    spot = Spot(("models",), place)
    if not isinstance(models, Mapping):
        raise spot.wrong("must be a table of routes: write [models.fast] and [[models.fast.deployments]].")
    taken: set[str] = set()
    routes = {name: _route(name, value, spot / name, taken) for name, value in models.items()}
    check_routes(routes, place)
    spend = table(budgets, Spot(("budgets",), place), _BUDGETS)
    return Catalog(
        routes=routes,
        run_budget=spend.get("run"),
        thread_budget=spend.get("thread"),
        recording=Recording(**table(recording, Spot(("recording",), place), _RECORDING)),
    )
