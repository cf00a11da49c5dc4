"""Budgets: what a run, a thread and a route may spend, enforced before a call is made.

What was spent before is asked of the store of records, for each call, so that it counts across processes and restarts.
Calls in flight in this process are reserved, so that parallel calls do not each find the same rest. What is in flight
in other processes is not seen: such a budget can be exceeded by the calls under way elsewhere when it is reached.
Outside a super-step it is unknown what was spent, and budgets do not apply.

What a call can cost is known if it, or its deployment, has a limit on the answer (`max_tokens`): that is reserved, and
a call that does not fit is refused. Without a limit it is estimated: the most that calls of the route lately took. Such
calls are *open*, and no more of them are let out at a time than are known: while nothing is known, one by itself. The
others wait for its end, instead of all being let out on an estimate that knows nothing, or all being refused. Where
even the most that any model writes would fit for all, nobody waits.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from superstep.providers.clock import now
from superstep.providers.policy.ledger import Ledger, refuse
from superstep.providers.policy.recent import RecentTokens
from superstep.providers.records.ports import hooks
from superstep.providers.routing.budget_line import BudgetLine, Place
from superstep.providers.routing.candidates import find_route
from superstep.runtime.faults import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from superstep.providers.catalog.model import Budget, Catalog, Deployment, Route
    from superstep.providers.records.ports import Amount, SpentByScope
    from superstep.providers.routing.ask import Ask

__all__ = ["Budgets", "Reservation", "held_reservations", "limit_of"]

_REMEMBERED = 10_000  # scopes; far more than are active at a time
_LOOK_AGAIN = 1.0  # seconds
_MOST_OUTPUT = 131_072  # tokens: the longest answers of today's models

Key: TypeAlias = tuple[str, str]  # a scope: its kind and its name


class Need(NamedTuple):
    """What a call is reserved at: US dollars (`None`: no price is known) and tokens, in and out.

    Attributes:
        usd: what it takes, by estimate or by its limit.
        tokens: likewise.
        most_usd: what it can take if it is open and its model writes as much as it can.
        most_tokens: likewise.
        known: of an open call, how many calls the estimate rests on; `None` of one with a limit.
    """

    usd: float | None
    tokens: int
    most_usd: float | None
    most_tokens: int
    known: int | None


class Reservation:
    """What one call has reserved. Released when all who hold it have let go, the first being its call."""

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self._release = release
        self._holders = 1
        self._lock = threading.Lock()
        self._paused_at: float | None = None

    def retain(self) -> Reservation:
        """Hold it as well."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """Let go. Safe to call again once it is released."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._release()

    def pause(self) -> None:
        """The reader of a stream does something else."""
        self._paused_at = time.monotonic()

    def resume(self) -> None:
        """It reads on."""
        self._paused_at = None

    @property
    def left_alone(self) -> bool:
        """Whether its reader has been busy for so long that whoever waits for its end may be waiting for itself."""
        return self._paused_at is not None and time.monotonic() - self._paused_at >= _LOOK_AGAIN


Cost: TypeAlias = "Callable[[Deployment, int, int], float | None]"

# What a call has spent is stored after its answer has left the model. A caller that sees to that collects reservations
# here, and releases them when it is done; without a list to collect in, they are released with the answer.
held_reservations: ContextVar[list[Reservation] | None] = ContextVar("superstep_reservations", default=None)


class _Scope(NamedTuple):
    kind: str
    budget: Budget
    spent: Amount
    key: Key


class _Refusal(NamedTuple):
    scope: _Scope
    why: str
    passes: bool  # when a call in flight has ended


class Budgets:
    """The budgets of a catalog. Safe to share by threads."""

    def __init__(self, catalog: Catalog, recent: RecentTokens | None = None) -> None:
        self._catalog = catalog
        self._recent = recent or RecentTokens()
        self._likely, self._most = Ledger(), Ledger()
        self._open: dict[Key, dict[Reservation, Need]] = {}
        self._line = BudgetLine()
        self._lock = threading.Lock()
        self._ended = 0  # calls, so far
        self._last_end: OrderedDict[Key, int] = OrderedDict()  # of each scope, the latest ones

    async def reserve(self, ask: Ask, cost: Cost) -> Reservation:
        """Reserve what a call may spend; an open call waits its turn.

        Raises:
            BudgetExceeded: it would exceed a budget, or may because of calls in flight of which none has ended in the
                time that one may take.
        """
        route = find_route(self._catalog, ask.route)
        if hooks().spent is None or not (self._catalog.run_budget or self._catalog.thread_budget or route.budget):
            return Reservation()
        latest, place = None, self._line.place()
        try:
            while True:
                seen = self._ended
                found = await self._tried(route, ask, cost, place)
                if isinstance(found, Reservation):
                    return found
                if not found.passes:
                    raise _exceeded(found.scope, found.why)
                latest = now() + self._patience(route) if latest is None or self._ended != seen else latest
                if not await self._turn(place, found.scope.key, latest):
                    raise _exceeded(found.scope, f"{found.why}; none of them has ended meanwhile")
        finally:
            place.leave()

    async def _turn(self, place: Place, key: Key, latest: float) -> bool:
        """Wait until it may be the call's turn; false if nothing has changed until `latest`."""
        while (until := min(latest, now() + _LOOK_AGAIN)) > now():
            if await place.wait(until):
                return True
            with self._lock:
                if any(each.left_alone for each in self._open.get(key, ())):
                    return now() < latest
        return False

    async def _tried(self, route: Route, ask: Ask, cost: Cost, place: Place) -> Reservation | _Refusal:
        while True:
            seen = self._ended
            spent_before = hooks().spent
            spent = None
            if spent_before is not None:
                spent = await spent_before(route.name, route.budget.window if route.budget else None)
            if spent is None:
                return Reservation()
            scopes, need = self._scopes(route, spent), self._need(route, ask, cost)
            with self._lock:
                if any(self._last_end.get(scope.key, 0) > seen for scope in scopes):
                    continue  # a call ended while we asked: it may be neither in the answer nor reserved any more
                refusals = (self._refusal(scope, need, place.is_behind(scope.key)) for scope in scopes)
                refusal = next((each for each in refusals if each is not None), None)
                if refusal is not None:
                    place.join(refusal.scope.key)
                    return refusal
                return self._reserved([scope.key for scope in scopes], need)

    def _need(self, route: Route, ask: Ask, cost: Cost) -> Need:
        """What the call may take, whichever of the reachable deployments answers it.

        No price is known if one of them has none: then a budget in money cannot be kept.
        """
        routes = self._catalog.reachable(route)
        asked = [each for one in routes for each in one.deployments]
        lately = self._recent.largest(each.name for each in asked)
        times = 2 if any(one.hedge is not None for one in routes) else 1  # a second attempt is paid for, too
        read = ask.input_tokens + lately.excess
        limits = [(each, ask.output_tokens or limit_of(each.parameters)) for each in asked]
        likely = [(each, limit or lately.output) for each, limit in limits]
        most = [(each, limit or _MOST_OUTPUT) for each, limit in limits]

        def usd(outputs: list[tuple[Deployment, int]]) -> float | None:
            costs = [cost(each, read, output) for each, output in outputs]
            known = [each for each in costs if each is not None]
            return times * max(known) if known and len(known) == len(costs) else None

        def tokens(outputs: list[tuple[Deployment, int]]) -> int:
            return times * (read + max((output for _, output in outputs), default=0))

        unlimited = any(not limit for _, limit in limits)
        return Need(usd(likely), tokens(likely), usd(most), tokens(most), lately.calls if unlimited else None)

    def _patience(self, route: Route) -> float:
        """Seconds in which a call of the route has ended, one way or another."""
        asked = [each for one in self._catalog.reachable(route) for each in one.deployments]
        return route.patience + max((each.timeout * (1 + each.retries) for each in asked), default=0.0)

    def _scopes(self, route: Route, spent: SpentByScope) -> list[_Scope]:
        named = (
            ("run", self._catalog.run_budget, spent.run, spent.thread_id),
            ("thread", self._catalog.thread_budget, spent.thread, spent.thread_id),
            ("route", route.budget, spent.route, route.name),
        )
        return [
            _Scope(kind, budget, so_far, (kind, name)) for kind, budget, so_far, name in named if budget is not None
        ]

    def _refusal(self, scope: _Scope, need: Need, behind: bool) -> _Refusal | None:
        key = scope.key
        alone = _why(scope, (0.0, 0), need.usd, need.tokens)
        if alone is not None:
            return _Refusal(scope, alone, passes=False)
        if _why(scope, self._most.reserved(key), need.most_usd, need.most_tokens) is None:
            return None
        waited_for = [other for held, other in self._open.get(key, {}).items() if not held.left_alone]
        usd, tokens = self._likely.reserved(key)
        why = _why(scope, (usd, tokens), need.usd, need.tokens)
        if why is not None:
            usd -= sum(each.usd or 0.0 for each in waited_for)
            tokens -= sum(each.tokens for each in waited_for)
            passes = _why(scope, (usd, tokens), need.usd, need.tokens) is None
            return _Refusal(scope, why, passes=bool(waited_for) and passes)
        if need.known is not None and waited_for and (behind or len(waited_for) >= need.known):
            why = f"calls in flight that have no max_tokens ({len(waited_for)}) may take the rest"
            return _Refusal(scope, why, passes=True)
        return None

    def _reserved(self, keys: list[Key], need: Need) -> Reservation:
        for key in keys:
            self._likely.reserve(key, need.usd or 0.0, need.tokens)
            self._most.reserve(key, need.most_usd or 0.0, need.most_tokens)
        reservation = Reservation(lambda: self._release(keys, need, reservation))
        if need.known is not None:
            for key in keys:
                self._open.setdefault(key, {})[reservation] = need
        return reservation

    def _release(self, keys: list[Key], need: Need, reservation: Reservation) -> None:
        with self._lock:
            self._ended += 1
            for key in keys:
                self._likely.release(key, need.usd or 0.0, need.tokens)
                self._most.release(key, need.most_usd or 0.0, need.most_tokens)
                if key in self._open:
                    self._open[key].pop(reservation, None)
                    if not self._open[key]:
                        del self._open[key]
                self._last_end[key] = self._ended
                self._last_end.move_to_end(key)
            while len(self._last_end) > _REMEMBERED:
                self._last_end.popitem(last=False)
        self._line.wake(keys)


def _why(scope: _Scope, reserved: tuple[float, int], usd: float | None, tokens: int) -> str | None:
    return refuse(
        scope.budget,
        spent_usd=scope.spent.usd,
        spent_tokens=scope.spent.tokens,
        reserved_usd=reserved[0],
        reserved_tokens=reserved[1],
        next_usd=usd,
        next_tokens=tokens,
    )


def limit_of(arguments: Mapping[str, Any]) -> int:
    """The most tokens that an answer may have, if the arguments of the call or of its model say so; else 0."""
    limit = arguments.get("max_tokens") or arguments.get("max_completion_tokens")
    return limit if isinstance(limit, int) else 0


def _exceeded(scope: _Scope, why: str) -> BudgetExceeded:
    kind, name = scope.key
    what = {"run": f"The run of thread {name!r}", "thread": f"Thread {name!r}", "route": f"Model route {name!r}"}[kind]
    where = f"[models.{name}] budget" if kind == "route" else f"[budgets] {kind}"
    return BudgetExceeded(
        f"{what} would exceed its budget: {why}. The call was not made, and nothing of its step was committed. Raise "
        f"{where} in runtime.toml, then go on with `runtime resume`.",
        scope=kind,
    )
