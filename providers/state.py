"""What this process knows of a deployment: its circuit, its limits, its slots, how fast it answers.

Calls of several event loops and threads share it, so every method that reads and changes it does so under one lock and
never waits.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from providers.policy.breaker import CircuitBreaker
from providers.policy.failures import Action
from providers.policy.limits import RateLimit
from providers.policy.strategies import Health

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.config import Deployment
    from providers.policy.breaker import Permit
    from providers.policy.failures import Failure
    from providers.policy.limits import Taken

__all__ = ["DeploymentState", "Hindrance", "Lease"]


class Hindrance(NamedTuple):
    """Why a deployment cannot take a call now, and when (loop time) that may end.

    `until` is infinity where only another call's end can tell, and `None` if it will not end by itself.
    """

    why: str
    until: float | None


class DeploymentState:
    """See the module.

    Attributes:
        deployment: what it is the state of.
        breaker: its circuit.
        limit: its requests and tokens a minute.
        health: calls in flight, and how fast it answers.
        lock: held while any of these is read or changed.
        watchers: called whenever a call ends.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.breaker = CircuitBreaker(deployment.breaker)
        self.limit = RateLimit(deployment.rpm, deployment.tpm)
        self.health = Health()
        self.lock = threading.Lock()
        self.watchers: list[Callable[[], object]] = []

    def hindrance(self, now: float, tokens: int) -> Hindrance | None:
        """Why the deployment cannot take a call of that many tokens now."""
        with self.lock:
            return self._hindrance(now, tokens)

    def _hindrance(self, now: float, tokens: int) -> Hindrance | None:
        if not self.breaker.permits(now):
            reopens = self.breaker.reopens_at
            return Hindrance("circuit open", reopens if reopens is not None and reopens > now else float("inf"))
        if self.deployment.concurrency is not None and self.health.in_flight >= self.deployment.concurrency:
            return Hindrance("all slots taken", float("inf"))
        wait = self.limit.wait(now, tokens)
        return Hindrance("rate limit", now + wait) if wait > 0 else None

    def begin(self, now: float, tokens: int) -> Lease | Hindrance:
        """Take the call, or say why it cannot be taken."""
        with self.lock:
            hindrance = self._hindrance(now, tokens)
            if hindrance is not None:
                return hindrance
            self.health.in_flight += 1
            return Lease(self, now, self.limit.take(now, tokens), self.breaker.begin(now))

    def watch(self, wake: Callable[[], object]) -> None:
        """Have `wake` called when a call ends here."""
        with self.lock:
            self.watchers.append(wake)

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Undo `watch`."""
        with self.lock:
            self.watchers.remove(wake)


class Lease:
    """One call in flight at a deployment. It ends once, in one of three ways; further ends are ignored.

    Attributes:
        began: when.
    """

    def __init__(self, state: DeploymentState, began: float, taken: Taken, permit: Permit) -> None:
        self._state = state
        self.began = began
        self._taken = taken
        self._permit = permit
        self._ended = False

    def answered(self, now: float, *, tokens: int, output_tokens: int) -> None:
        """The call was answered, with this many tokens in all; 0 if the provider did not count them."""

        def judge(state: DeploymentState) -> None:
            state.breaker.succeeded(self._permit, now)
            state.health.observe(now, now - self.began, output_tokens)
            if tokens:
                state.limit.settle(self._taken, now, tokens)

        self._end(judge)

    def failed(self, now: float, failure: Failure) -> None:
        """The call failed."""

        def judge(state: DeploymentState) -> None:
            if failure.counts:
                state.breaker.failed(self._permit, now)
                state.health.failed(now)
            else:
                state.breaker.succeeded(self._permit, now)
            if failure.action is Action.RETRY and failure.retry_after is not None:
                state.limit.cool_down(now, failure.retry_after)

        self._end(judge)

    def abandoned(self) -> None:
        """The call was cancelled: that says nothing about the deployment."""
        self._end(lambda state: state.breaker.abandoned(self._permit, self.began))

    def _end(self, judge: Callable[[DeploymentState], None]) -> None:
        state = self._state
        with state.lock:
            if self._ended:
                return
            self._ended = True
            state.health.in_flight -= 1
            judge(state)
            watchers = list(state.watchers)
        for wake in watchers:
            wake()
