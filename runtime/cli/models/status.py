"""Routes and deployments as plain data, for `runtime models --json` and for its tables. No key is ever looked into."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from superstep.providers.catalog.pricing import price_of
from superstep.runtime.cli.models.circuits import circuit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.checkpointer import DeploymentHealth
    from superstep.providers.catalog.model import Catalog, Deployment, Route
    from superstep.providers.chat.probe import CheckResult

__all__ = ["described", "routes_of"]


def routes_of(catalog: Catalog) -> list[Route]:
    """All routes, that for every name included."""
    return [*catalog.routes.values(), *([catalog.catch_all] if catalog.catch_all else [])]


def described(
    catalog: Catalog, health: Mapping[str, DeploymentHealth], checked: Mapping[str, CheckResult] | None
) -> dict[str, Any]:
    """Describe a catalog, with what is known of its deployments.

    Args:
        catalog: Its routes and budgets are described.
        health: What the records say, by name of the deployment.
        checked: How checks ended, by name; `None` if none were made.
    """
    now = datetime.now(UTC)
    return {
        "routes": [_route(route, catalog, health, checked, now) for route in routes_of(catalog)],
        "budgets": {
            scope: asdict(budget)
            for scope, budget in (("run", catalog.run_budget), ("thread", catalog.thread_budget))
            if budget
        },
        "recording": {"content": catalog.recording.content, "redact": len(catalog.recording.redact)},
    }


def _route(
    route: Route,
    catalog: Catalog,
    health: Mapping[str, DeploymentHealth],
    checked: Mapping[str, CheckResult] | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "route": route.name,
        "any_name": route is catalog.catch_all,
        "strategy": route.strategy,
        "fallbacks": list(route.fallbacks),
        "context_fallbacks": list(route.context_fallbacks),
        "content_fallbacks": list(route.content_fallbacks),
        "rules": [
            {"route": rule.route, "tags": sorted(rule.tags), "max_input_tokens": rule.max_input_tokens}
            for rule in route.rules
        ],
        "patience": route.patience,
        "hedge": asdict(route.hedge) if route.hedge else None,
        "continue_text": route.continue_text,
        "budget": asdict(route.budget) if route.budget else None,
        "where": route.where,
        "healthy": None if checked is None else any(checked[each.name].ok for each in route.deployments),
        "deployments": [
            {
                **_deployment(each),
                "health": _health(each, health.get(each.name), now),
                "check": None if checked is None else asdict(checked[each.name]),
            }
            for each in route.deployments
        ],
    }


def _deployment(deployment: Deployment) -> dict[str, Any]:
    price, variable = price_of(deployment), deployment.api_key_env
    return {
        "deployment": deployment.name,
        "provider": deployment.provider,
        "model": deployment.model or deployment.path,
        "offline": deployment.provider == "offline",
        "host": urlsplit(deployment.base_url).netloc if deployment.base_url else None,
        "api_key_env": variable,
        "key_set": bool(os.environ.get(variable)) if variable else None,
        "weight": deployment.weight,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
        "concurrency": deployment.concurrency,
        "timeout": deployment.timeout,
        "price": asdict(price) if price else None,
    }


def _health(deployment: Deployment, found: DeploymentHealth | None, now: datetime) -> dict[str, Any] | None:
    """What the records of the last hour say; `None` without any."""
    if found is None:
        return None
    state, until = circuit(deployment.breaker, found.attempts, now)
    return {
        "calls": found.calls,
        "failed": found.failed,
        "p50_ms": None if found.p50_ms is None else round(found.p50_ms, 1),
        "last_failure_at": found.last_failure_at,
        "last_failure": found.last_failure,
        "circuit": state,
        "circuit_until": until,
    }
