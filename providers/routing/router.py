"""The router: finds a deployment that answers, within what the policy allows.

All decisions are `providers.policy`'s; this module asks them in order and keeps a log of what was tried. It knows
neither LangChain nor any SDK: how a deployment is asked is a function it is given. Time is the event loop's, so the
same code runs under a virtual clock.

One call goes through these steps:

1. The route's rules may send it to another route.
2. Candidates are the route's deployments in the order of its strategy, then those of its fallbacks.
3. A candidate that cannot take the call now (circuit open, limit reached, all slots taken) is passed over. Only when no
   other is left does the call wait for one, for the route's `patience` at most.
4. A failure that may pass is repeated on the same deployment, with pauses; any other one, or one too many, moves on;
   one that is the request's own fault ends the call. Too long an input, or refused content, go to the routes that are
   configured for that.

Guarantees: a call ends with one answer or one error that names everything tried; no deployment is asked again after
it has answered; a deployment is asked at most `1 + retries` times for a call.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from superstep.providers.clock import now
from superstep.providers.policy.backoff import pause, spread
from superstep.providers.policy.failures import Action, Failure, classify
from superstep.providers.policy.hedging import HedgeBank
from superstep.providers.routing.ask import Ask
from superstep.providers.routing.candidates import Candidate, candidates, reachable, ruled
from superstep.providers.routing.deployment_state import DeploymentState, Hindrance, Lease, Waiter
from superstep.providers.routing.hedge import hedged
from superstep.providers.transport.response_hook import LastResponse, noted_response
from superstep.providers.transport.retrying import AttemptFailed, may_be_repeated, retrying
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Catalog, Deployment, Route

__all__ = ["Ask", "Discard", "LeasedAnswer", "Router", "Send"]

T = TypeVar("T")

_MILLION = 1_000_000


@dataclass(slots=True)
class LeasedAnswer(Generic[T]):
    """An answer that is still in flight at the deployment that gave it, until the caller ends its lease.

    Attributes:
        value: what `Send` returned.
        candidate: the deployment that gave it, and the route it stood for.
        lease: to be ended by the caller, whatever becomes of the answer.
        response: the last HTTP response, for errors that come after it.
    """

    value: T
    candidate: Candidate
    lease: Lease
    response: LastResponse


# How a deployment is asked. Raises what its SDK raises.
Send = Callable[[Candidate], Awaitable[T]]
Discard = Callable[[T], Awaitable[None]]


class _Hindered(AttemptFailed):
    """The deployment could not take the call after all: others came first."""

    def __init__(self, hindrance: Hindrance) -> None:
        super().__init__(Failure(Action.MOVE_ON, hindrance.why, None, None, counts=False), None)
        self.hindrance = hindrance


class Router:
    """The deployments of a catalog with their state, shared by all calls of the process. Safe to share by threads.

    Attributes:
        catalog: what is configured.
        states: what is known of each deployment, by name.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        cost: Callable[[Deployment, int, int], float | None],
        unusable: Callable[[Deployment], str | None] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        """Make a router with everything healthy.

        Args:
            catalog: what is configured.
            cost: US dollars of a call, by deployment, input and output tokens; `None` if unknown.
            unusable: why a deployment cannot be asked at all (its key is not set).
            rng: randomness of strategies and pauses.
        """
        self.catalog = catalog
        self.states: dict[str, DeploymentState] = {}
        self._cost = cost
        self._unusable = unusable
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._banks: dict[str, HedgeBank] = {}
        self._priced: dict[str, bool] = {}

    def state(self, deployment: Deployment) -> DeploymentState:
        """The state of a deployment."""
        return self.states.get(deployment.name) or self.states.setdefault(deployment.name, DeploymentState(deployment))

    async def route(self, ask: Ask, send: Send[T], discard: Discard[T]) -> LeasedAnswer[T]:
        """Have a call answered.

        Args:
            ask: the call. Its log of attempts is filled as deployments are left.
            send: asks the deployment of a candidate, once; whatever it raises is judged by the policy.
            discard: gets rid of an answer that came too late to be used.

        Raises:
            ProviderRejected: a provider says that the request itself is wrong.
            ProviderExhausted: no deployment answered.
            RuntimeFault: asking a deployment failed for a reason of our own; no other was asked.
        """
        ask.stopped = False  # a call may go on elsewhere with its stream's rest, whatever a lost hedge was told
        try:
            return await self._route(ask, send, discard)
        finally:
            if ask.waiter is not None:
                ask.waiter.leave()

    async def _route(self, ask: Ask, send: Send[T], discard: Discard[T]) -> LeasedAnswer[T]:
        route = ruled(self.catalog, ask.route, ask.tags, ask.input_tokens)
        known: dict[str, Candidate] = {}
        pending = _once_each(self._candidates(route, ask), known)
        deadline = now() + route.patience
        while True:
            opens: list[float] = []  # when candidates can take the call; infinity: when another call ends
            for candidate in pending:
                if candidate.exhausted:
                    continue
                try:
                    return await self._hedged(candidate, pending, ask, send, discard)
                except _Hindered as hindered:
                    ask.attempts.passed_over(candidate, hindered.hindrance.why)
                    opens += [] if hindered.hindrance.until is None else [hindered.hindrance.until]
                except AttemptFailed:
                    if ask.stopped:
                        raise ask.attempts.rejected(route) from None
                    instead = self._instead(pending, ask)
                    if instead is not None:
                        pending = _once_each(instead, known)
                        break
                    opens += [] if candidate.exhausted else [now()]
            else:
                if now() >= deadline or not any(at <= deadline or at == math.inf for at in opens):
                    raise ask.attempts.exhausted(route)
                await self._wait(pending, self._look_again(opens, deadline), ask)

    def _look_again(self, opens: list[float], deadline: float) -> float:
        """When to look again, spread out: every waiting call knows the first moment at which one of them can begin."""
        soonest = min(opens)
        if soonest == math.inf:
            return deadline
        return min(deadline, now() + spread(max(0.0, soonest - now()), self._rng))

    # -- candidates ----------------------------------------------------------------------------------------------

    def _candidates(self, route: Route, ask: Ask) -> list[Candidate]:
        return candidates(
            self.catalog,
            route,
            self.state,
            without=ask.without,
            now=now(),
            rng=self._rng,
            cost=lambda deployment: self._cost(deployment, ask.input_tokens, ask.output_tokens),
        )

    def _hindrance(self, candidate: Candidate, ask: Ask) -> Hindrance | None:
        why = self._unusable(candidate.deployment)
        return Hindrance(why, None) if why else candidate.state.hindrance(now(), ask.tokens, ask.waiter)

    def _instead(self, pending: list[Candidate], ask: Ask) -> list[Candidate] | None:
        """The candidates of the routes that take what one of these may not: too long an input, or refused content."""
        for candidate in pending:
            names: tuple[str, ...] = ()
            if candidate.verdict is Action.CONTEXT:
                names = candidate.route.context_fallbacks
            elif candidate.verdict is Action.CONTENT:
                names = candidate.route.content_fallbacks
            if names:
                candidate.verdict = None
                return [found for name in names for found in self._candidates(self.catalog.routes[name], ask)]
        return None

    async def _wait(self, pending: list[Candidate], until: float, ask: Ask) -> None:
        """Until `until`, or until it is this call's turn at a candidate where others have to end first."""
        waiter = ask.waiter = ask.waiter or Waiter()
        found = [(each.state, self._hindrance(each, ask)) for each in pending if not each.exhausted]
        waiter.join(
            {
                state: hindrance.until < math.inf
                for state, hindrance in found
                if hindrance is not None and hindrance.until is not None
            }
        )
        if all(hindrance is not None for _, hindrance in found):  # else another thread's call has ended meanwhile
            await waiter.wait(until)

    # -- attempts ------------------------------------------------------------------------------------------------

    async def _hedged(
        self, candidate: Candidate, pending: list[Candidate], ask: Ask, send: Send[T], discard: Discard[T]
    ) -> LeasedAnswer[T]:
        """The candidate's answer, or that of a second one, asked because the first was slow."""
        hedge = candidate.route.hedge
        if hedge is None or self._hindrance(candidate, ask) is not None:
            return await self._attempts(candidate, ask, send)
        bank = self._banks.setdefault(candidate.route.name, HedgeBank(hedge.max_share))
        requests = candidate.requests

        def second(first_has_ended: bool) -> Coroutine[Any, Any, LeasedAnswer[T]] | None:
            if candidate.requests > requests:  # else another call took its slot, and nothing was spent on it
                bank.earn(self._stake(candidate.route, candidate, ask))
            other = None if first_has_ended else self._other(candidate, pending, ask)
            if other is None or not bank.spend(self._stake(candidate.route, other, ask)):
                return None
            ask.attempts.hedged = True
            return self._once(other, ask, send)  # not `_attempts`: one request is paid for

        async def drop(won: LeasedAnswer[T]) -> None:
            won.lease.abandoned()
            ask.attempts.cancelled(won.candidate, won.lease.began, now(), sent=True)
            await discard(won.value)

        first = self._attempts(candidate, ask, send)
        return await hedged(first, after=hedge.after, second=second, is_final=_is_final, discard=drop)

    def _other(self, candidate: Candidate, pending: list[Candidate], ask: Ask) -> Candidate | None:
        others = (each for each in pending if not each.exhausted and each.deployment.name != candidate.deployment.name)
        return next((each for each in others if self._hindrance(each, ask) is None), None)

    def _stake(self, route: Route, candidate: Candidate, ask: Ask) -> float:
        """What a call counts in the bank of a route: dollars if all that can be reached has a price, else 1."""
        if route.name not in self._priced:
            answering = reachable(self.catalog, route)
            self._priced[route.name] = all(self._cost(each, _MILLION, _MILLION) for each in answering)
        if not self._priced[route.name]:
            return 1.0
        # Nothing is free: with an estimate of no tokens at all, any number of second attempts would fit the bound.
        return self._cost(candidate.deployment, max(1, ask.input_tokens), max(1, ask.output_tokens)) or 1.0

    async def _attempts(self, candidate: Candidate, ask: Ask, send: Send[T]) -> LeasedAnswer[T]:
        """One deployment, asked until it answers, fails for good, or has used up its retries."""

        def again(error: BaseException) -> bool:
            # A circuit that has opened meanwhile, or a provider that said when to come back, ends the retries here.
            return not ask.stopped and may_be_repeated(error) and self._hindrance(candidate, ask) is None

        try:
            return await self._once(candidate, ask, send)  # where most calls end, without any machinery for retries
        except AttemptFailed as failed:
            if not again(failed):
                raise
            await asyncio.sleep(failed.pause or 0.0)
        return await retrying(again)(self._once, candidate, ask, send)

    async def _once(self, candidate: Candidate, ask: Ask, send: Send[T]) -> LeasedAnswer[T]:
        why = self._unusable(candidate.deployment)
        lease = Hindrance(why, None) if why else candidate.state.begin(now(), ask.tokens, ask.waiter)
        if isinstance(lease, Hindrance):
            raise _Hindered(lease)
        if ask.waiter is not None:
            ask.waiter.leave()
        candidate.requests += 1
        with noted_response() as response:
            value = await self._sent(candidate, ask, send, lease, response)
        return LeasedAnswer(value, candidate, lease, response)

    async def _sent(self, candidate: Candidate, ask: Ask, send: Send[T], lease: Lease, response: LastResponse) -> T:
        """The candidate's answer. Any other end of the attempt ends its lease and is noted in the call's log."""
        try:
            return await send(candidate)
        except RuntimeFault:
            lease.abandoned()
            raise
        except Exception as error:
            failure = classify(error, status=response.status, headers=response.headers)
            lease.failed(now(), failure)
            ask.attempts.failed(candidate, failure, error, lease.began, now(), sent=response.sent)
            ask.stopped = ask.stopped or failure.action is Action.STOP
            candidate.failed(failure)
            again_after = None if candidate.exhausted else pause(candidate.requests, failure, self._rng)
            raise AttemptFailed(failure, again_after) from error
        except BaseException:
            lease.abandoned()
            with suppress(RuntimeError):  # closed after its loop has ended: the log is not read any more
                ask.attempts.cancelled(candidate, lease.began, now(), sent=response.sent)
            raise


def _once_each(found: list[Candidate], known: dict[str, Candidate]) -> list[Candidate]:
    """The candidates, each once. One that was known before stays the same, and its requests go on being counted."""
    for each in found:
        known.setdefault(each.deployment.name, each)
    return [known[name] for name in dict.fromkeys(each.deployment.name for each in found)]


def _is_final(error: BaseException) -> bool:
    return not isinstance(error, AttemptFailed) or error.failure.action is Action.STOP
