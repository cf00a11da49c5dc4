"""Budgets: what a run, a thread and a route may spend, enforced before a call is made.

What was spent before is asked of whoever keeps the records, for each call, so that it counts across processes and
restarts. Calls in flight in this process are reserved at their estimate, so that parallel calls do not each find the
same rest. What is in flight in other processes is not seen: such a budget can be exceeded by the calls under way
elsewhere when it is reached. Outside a super-step nobody knows what was spent, and budgets do not apply.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from providers.candidates import find_route
from providers.hooks import hooks
from providers.policy.ledger import Ledger, refuse
from runtime.faults import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.config import Budget, Catalog, Deployment, Route
    from providers.hooks import Spend, Spent
    from providers.router import Ask

__all__ = ["Budgets", "Reservation", "held"]


class Reservation:
    """What one call has reserved. Released once, when its record has been stored."""

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the reservation back. Safe to call again."""
        release, self._release = self._release, None
        if release is not None:
            release()


# A call's spend is stored after its answer has left the model. Whoever sees to that collects reservations here, and
# releases them when it is done; without anybody, they are released with the answer.
held: ContextVar[list[Reservation] | None] = ContextVar("superstep_reservations", default=None)


class Budgets:
    """The budgets of a catalog. Safe to share by threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._ledger = Ledger()
        self._lock = threading.Lock()

    async def reserve(self, ask: Ask, cost: Callable[[Deployment, int, int], float | None]) -> Reservation:
        """Reserve what a call may spend.

        Raises:
            BudgetExceeded: it would exceed a budget.
        """
        catalog, route = self._catalog, find_route(self._catalog, ask.route)
        asked = hooks().spent
        if asked is None or not (catalog.run_budget or catalog.thread_budget or route.budget):
            return Reservation()
        spent = await asked(route.name, route.budget.window if route.budget else None)
        if spent is None:
            return Reservation()
        costs = [cost(each, ask.input_tokens, ask.output_tokens) for each in route.deployments]
        known = [each for each in costs if each is not None]
        usd = max(known) if len(known) == len(costs) else None  # whoever answers, it costs no more (by this estimate)
        scopes = self._scopes(route, spent)
        with self._lock:
            for scope, budget, so_far, key in scopes:
                why = self._refusal(budget, so_far, key, usd, ask.tokens)
                if why is not None:
                    raise _exceeded(scope, key[1], why)
            for _, _, _, key in scopes:
                self._ledger.reserve(key, usd or 0.0, ask.tokens)
        return Reservation(lambda: self._release([key for _, _, _, key in scopes], usd or 0.0, ask.tokens))

    def _scopes(self, route: Route, spent: Spent) -> list[tuple[str, Budget, Spend, tuple[str, str]]]:
        named = (
            ("run", self._catalog.run_budget, spent.run, spent.thread_id),
            ("thread", self._catalog.thread_budget, spent.thread, spent.thread_id),
            ("route", route.budget, spent.route, route.name),
        )
        return [(scope, budget, so_far, (scope, name)) for scope, budget, so_far, name in named if budget is not None]

    def _refusal(
        self, budget: Budget, so_far: Spend, key: tuple[str, str], usd: float | None, tokens: int
    ) -> str | None:
        reserved_usd, reserved_tokens = self._ledger.reserved(key)
        return refuse(
            budget,
            spent_usd=so_far.usd,
            spent_tokens=so_far.tokens,
            reserved_usd=reserved_usd,
            reserved_tokens=reserved_tokens,
            next_usd=usd,
            next_tokens=tokens,
        )

    def _release(self, keys: list[tuple[str, str]], usd: float, tokens: int) -> None:
        with self._lock:
            for key in keys:
                self._ledger.release(key, usd, tokens)


def _exceeded(scope: str, name: str, why: str) -> BudgetExceeded:
    what = {"run": f"The run of thread {name!r}", "thread": f"Thread {name!r}", "route": f"Model route {name!r}"}[scope]
    where = f"[models.{name}] budget" if scope == "route" else f"[budgets] {scope}"
    return BudgetExceeded(
        f"{what} would exceed its budget: {why}. The call was not made, and nothing of its step was committed. Raise "
        f"{where} in runtime.toml, then go on with `runtime resume`.",
        scope=scope,
    )
