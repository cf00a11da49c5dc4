"""Budgets: what a run, a thread and a route may spend, enforced before a call is made.

What was spent before is asked of the store of records, for each call, so that it counts across processes and restarts.
Calls in flight in this process are reserved at their estimate, so that parallel calls do not each find the same rest.
What is in flight in other processes is not seen: such a budget can be exceeded by the calls under way elsewhere when it
is reached. Outside a super-step it is unknown what was spent, and budgets do not apply.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from superstep.providers.policy.ledger import Ledger, refuse
from superstep.providers.records.ports import hooks
from superstep.providers.routing.candidates import find_route, reachable
from superstep.runtime.faults import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from superstep.providers.catalog.model import Budget, Catalog, Deployment, Route
    from superstep.providers.records.ports import Amount, SpentByScope
    from superstep.providers.routing.ask import Ask

__all__ = ["Budgets", "Reservation", "held_reservations", "limit_of"]

_REMEMBERED = 10_000  # scopes; far more than are active at a time


class Reservation:
    """What one call has reserved. Released once, when its record has been stored."""

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the reservation back. Safe to call again."""
        release, self._release = self._release, None
        if release is not None:
            release()


Cost: TypeAlias = "Callable[[Deployment, int, int], float | None]"

# What a call has spent is stored after its answer has left the model. A caller that sees to that collects reservations
# here, and releases them when it is done; without a list to collect in, they are released with the answer.
held_reservations: ContextVar[list[Reservation] | None] = ContextVar("superstep_reservations", default=None)


class Budgets:
    """The budgets of a catalog. Safe to share by threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._ended = 0  # calls, so far
        self._last_end: OrderedDict[tuple[str, str], int] = OrderedDict()  # of each scope, the latest ones

    async def reserve(self, ask: Ask, cost: Cost) -> Reservation:
        """Reserve what a call may spend.

        Raises:
            BudgetExceeded: it would exceed a budget.
        """
        catalog, route = self._catalog, find_route(self._catalog, ask.route)
        spent_before = hooks().spent
        if spent_before is None or not (catalog.run_budget or catalog.thread_budget or route.budget):
            return Reservation()
        usd, tokens = self._most(route, ask, cost)
        while True:
            seen = self._ended
            spent = await spent_before(route.name, route.budget.window if route.budget else None)
            if spent is None:
                return Reservation()
            scopes = self._scopes(route, spent)
            with self._lock:
                if any(self._last_end.get(key, 0) > seen for *_, key in scopes):
                    continue  # a call ended while we asked: it may be neither in the answer nor reserved any more
                for scope, budget, so_far, key in scopes:
                    why = self._refusal(budget, so_far, key, usd, tokens)
                    if why is not None:
                        raise _exceeded(scope, key[1], why)
                for *_, key in scopes:
                    self._ledger.reserve(key, usd or 0.0, tokens)
            return Reservation(partial(self._release, [key for *_, key in scopes], usd or 0.0, tokens))

    def _most(self, route: Route, ask: Ask, cost: Cost) -> tuple[float | None, int]:
        """What the call may cost and take at most, by estimate, whichever of the reachable deployments answers it.

        No price is known if one of them has none: then a budget in money cannot be kept.
        """
        found = [(each, ask.output_tokens or limit_of(each.parameters)) for each in reachable(self._catalog, route)]
        costs = [cost(each, ask.input_tokens, output) for each, output in found]
        known = [each for each in costs if each is not None]
        most = max((output for _, output in found), default=0)
        return (max(known) if known and len(known) == len(costs) else None), ask.input_tokens + most

    def _scopes(self, route: Route, spent: SpentByScope) -> list[tuple[str, Budget, Amount, tuple[str, str]]]:
        named = (
            ("run", self._catalog.run_budget, spent.run, spent.thread_id),
            ("thread", self._catalog.thread_budget, spent.thread, spent.thread_id),
            ("route", route.budget, spent.route, route.name),
        )
        return [(scope, budget, so_far, (scope, name)) for scope, budget, so_far, name in named if budget is not None]

    def _refusal(
        self, budget: Budget, so_far: Amount, key: tuple[str, str], usd: float | None, tokens: int
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
            self._ended += 1
            for key in keys:
                self._ledger.release(key, usd, tokens)
                self._last_end[key] = self._ended
                self._last_end.move_to_end(key)
            while len(self._last_end) > _REMEMBERED:
                self._last_end.popitem(last=False)


def limit_of(arguments: Mapping[str, Any]) -> int:
    """The most tokens that an answer may have, if the arguments of the call or of its model say so; else 0."""
    limit = arguments.get("max_tokens") or arguments.get("max_completion_tokens")
    return limit if isinstance(limit, int) else 0


def _exceeded(scope: str, name: str, why: str) -> BudgetExceeded:
    what = {"run": f"The run of thread {name!r}", "thread": f"Thread {name!r}", "route": f"Model route {name!r}"}[scope]
    where = f"[models.{name}] budget" if scope == "route" else f"[budgets] {scope}"
    return BudgetExceeded(
        f"{what} would exceed its budget: {why}. The call was not made, and nothing of its step was committed. Raise "
        f"{where} in runtime.toml, then go on with `runtime resume`.",
        scope=scope,
    )
