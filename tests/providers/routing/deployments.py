"""Deployments that are functions of a test, and a router over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.providers.catalog.model import Catalog, Deployment, Route
from superstep.providers.routing.router import Ask, LeasedAnswer, Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.routing.candidates import Candidate


class Refusing(Exception):
    """What an SDK raises for a status."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(str(status))
        self.status_code = status
        self.code = code


def deployment(name: str, **more: Any) -> Deployment:
    return Deployment(name=name, provider="offline", model="m", **{"retries": 0, **more})


def router(*routes: Route, cost: Callable[[Deployment, int, int], float | None] = lambda *_: None) -> Router:
    return Router(Catalog(routes={route.name: route for route in routes}), cost=cost)


async def nothing(_: str) -> None:
    """No answer of these tests needs closing."""


async def asked(routed: Router, send: Callable[[Candidate], Any], **ask: Any) -> str:
    won: LeasedAnswer[str] = await routed.route(Ask("r", **ask), send, nothing)
    won.lease.abandoned()
    return won.value
