"""Routes and deployments for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rich.console import Console

__all__ = ["print_models"]

COLUMNS = ("deployment", "key", "limits", "$/M in, out", "last hour", "p50 ms", "circuit", "last failure", "check")
FALLBACKS = (("fallbacks", "then"), ("context_fallbacks", "if too long"), ("content_fallbacks", "if refused"))
SPANS = (("d", 86400), ("h", 3600), ("min", 60))
UNITS = (("rpm", "rpm"), ("tpm", "tpm"), ("concurrency", "at once"))


def print_models(shown: Mapping[str, Any], out: Console) -> None:
    """Print each route with a table of its deployments."""
    for route in shown["routes"]:
        out.print(_headline(route), style="bold", soft_wrap=True)
        rows = [(*_row(route["route"], each), _check(each["check"])) for each in route["deployments"]]
        used = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
        columns = [(COLUMNS[index], "right" if COLUMNS[index] == "p50 ms" else "") for index in used]
        table(columns, [[row[index] for index in used] for row in rows], out)
    for scope, budget in shown["budgets"].items():
        out.print(f"budget of a {scope}: {_amount(budget)}", soft_wrap=True)
    if shown["note"]:
        out.print(shown["note"], style="yellow", soft_wrap=True)


def _headline(route: Mapping[str, Any]) -> str:
    parts = ["any name (no routes are configured)" if route["any_name"] else route["route"], route["strategy"]]
    parts += [f"{word}: {', '.join(route[key])}" for key, word in FALLBACKS if route[key]]
    parts += [f"to {rule['route']}: {_condition(rule)}" for rule in route["rules"]]
    if route["hedge"]:
        parts.append(f"hedged after {route['hedge']['after']:g} s")
    if route["budget"]:
        parts.append(f"budget: {_amount(route['budget'])}")
    if route["healthy"] is False:
        parts.append("NO DEPLOYMENT ANSWERS")
    return " · ".join(parts)


def _condition(rule: Mapping[str, Any]) -> str:
    most = rule["max_input_tokens"]
    return ", ".join([*rule["tags"], *([f"up to {most} tokens"] if most else [])])


def _amount(budget: Mapping[str, Any]) -> str:
    dollars = [f"${budget['usd']:g}"] if budget["usd"] is not None else []
    tokens = [f"{budget['tokens']} tokens"] if budget["tokens"] is not None else []
    return " and ".join([*dollars, *tokens]) + (f" in {_span(budget['window'])}" if budget["window"] else "")


def _span(seconds: float) -> str:
    """A span of time in the largest unit that it is a whole number of."""
    length, unit = next(((length, unit) for unit, length in SPANS if seconds % length == 0), (1, "s"))
    return f"{seconds / length:g} {unit}"


def _row(route: str, deployment: Mapping[str, Any]) -> tuple[str, ...]:
    health = deployment["health"] or {}
    name = deployment["deployment"].removeprefix(f"{route}/")
    name += " (no model is asked)" if deployment["offline"] else ""
    name += f" at {deployment['host']}" if deployment["host"] else ""
    p50 = health.get("p50_ms")
    return (
        name,
        _key(deployment),
        ", ".join(f"{deployment[key]} {unit}" for key, unit in UNITS if deployment[key] is not None),
        _price(deployment["price"]),
        _calls(health),
        "" if p50 is None else f"{p50:.0f}",
        _circuit(health),
        f"{_clock(health['last_failure_at'])} {health['last_failure']}" if health.get("last_failure_at") else "",
    )


def _key(deployment: Mapping[str, Any]) -> str:
    if deployment["api_key_env"] is None:
        return "none needed"
    return f"{deployment['api_key_env']} {'set' if deployment['key_set'] else 'NOT SET'}"


def _price(price: Mapping[str, float] | None) -> str:
    if price is None:
        return "unknown"
    return f"{price['input']:g}, {price['output']:g}" if any(price.values()) else "free"


def _calls(health: Mapping[str, Any]) -> str:
    if not health:
        return "no calls yet"
    calls, failed = health["calls"], health["failed"]
    return f"{calls}, {100 * failed / calls:.0f} % failed" if failed else f"{calls}"


def _circuit(health: Mapping[str, Any]) -> str:
    until = health.get("circuit_until")
    return f"open until {_clock(until)}" if until else str(health.get("circuit", "closed"))


def _clock(when: datetime) -> str:
    """A moment within an hour of now, in the local zone."""
    return f"{when.astimezone():%H:%M:%S}"


def _check(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    return f"ok, {result['ms']:.0f} ms" if result["ok"] else f"failed: {result['why']}"
