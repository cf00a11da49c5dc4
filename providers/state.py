"""What this process knows of a deployment: its circuit, its limits, its slots, how fast it answers.

Calls of several event loops and threads share it, so every method that reads and changes it does so under one lock and
never waits.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from providers.policy.breaker import CircuitBreaker
from providers.policy.failures import Action
from providers.policy.limits import RateLimit
from providers.policy.strategies import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from providers.config import Deployment
    from providers.policy.breaker import Permit
    from providers.policy.failures import Failure
    from providers.policy.limits import Taken

__all__ = ["DeploymentState", "Hindrance", "Lease", "Waiter"]


class Hindrance(NamedTuple):
    """Why a deployment cannot take a call now, and when (loop time) that may end.

    `until` is infinity where only another call's end can tell, and `None` if it will not end by itself.
    """

    why: str
    until: float | None


class Waiter:
    """A call that waits until others end, in the queues of all deployments it could use.

    Its places are kept until it begins somewhere or gives up, so that whoever came first is served first, and a call
    that finds others waiting does not overtake them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._states: dict[DeploymentState, None] = {}

    def is_in(self, state: DeploymentState) -> bool:
        """Whether it waits for that deployment."""
        return state in self._states

    def join(self, states: Iterable[DeploymentState]) -> None:
        """Queue up, at the end where it is not queued already. What happens from now on wakes it."""
        self._woken.clear()
        for state in states:
            if state not in self._states:
                self._states[state] = None
                state.enqueue(self)

    async def wait(self, until: float) -> None:
        """Until it is woken, or until then."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._woken.wait()

    def leave(self) -> None:
        """Give up all places; whoever is next is woken in its stead."""
        while self._states:
            self._states.popitem()[0].dequeue(self)

    def wake(self) -> None:
        """Have it look again. May be called from any thread."""
        with suppress(RuntimeError):  # its loop has been closed around it
            self._loop.call_soon_threadsafe(self._woken.set)


class DeploymentState:
    """See the module.

    Attributes:
        deployment: what it is the state of.
        breaker: its circuit.
        limit: its requests and tokens a minute.
        health: calls in flight, and how fast it answers.
        lock: held while any of these is read or changed.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.breaker = CircuitBreaker(deployment.breaker)
        self.limit = RateLimit(deployment.rpm, deployment.tpm)
        self.health = Health()
        self.lock = threading.Lock()
        self._queue: deque[Waiter] = deque()

    @property
    def waiting(self) -> int:
        """How many calls wait for others to end here."""
        return len(self._queue)

    def hindrance(self, now: float, tokens: int, waiter: Waiter | None = None) -> Hindrance | None:
        """Why the deployment cannot take a call of that many tokens now; `waiter` if the call has been waiting."""
        with self.lock:
            return self._hindrance(now, tokens, waiter)

    def _hindrance(self, now: float, tokens: int, waiter: Waiter | None) -> Hindrance | None:
        if not self.breaker.permits(now):
            reopens = self.breaker.reopens_at
            return Hindrance("circuit open", reopens if reopens is not None and reopens > now else math.inf)
        slots = self.deployment.concurrency
        if slots is not None and self.health.in_flight + self._ahead_of(waiter) >= slots:
            return Hindrance("all slots taken", math.inf)
        wait = self.limit.wait(now, tokens)
        return Hindrance("rate limit", now + wait) if wait > 0 else None

    def _ahead_of(self, waiter: Waiter | None) -> int:
        if waiter is not None and waiter.is_in(self):
            return self._queue.index(waiter)  # those that are woken are at the front
        return len(self._queue)

    def begin(self, now: float, tokens: int, waiter: Waiter | None = None) -> Lease | Hindrance:
        """Take the call, or say why it cannot be taken. A call that begins should `leave` its queues."""
        with self.lock:
            hindrance = self._hindrance(now, tokens, waiter)
            if hindrance is not None:
                return hindrance
            self.health.in_flight += 1
            return Lease(self, now, self.limit.take(now, tokens), self.breaker.begin(now))

    def enqueue(self, waiter: Waiter) -> None:
        """Let a call wait for others to end here."""
        with self.lock:
            self._queue.append(waiter)

    def dequeue(self, waiter: Waiter) -> None:
        """Undo `enqueue`."""
        with self.lock:
            self._queue.remove(waiter)
        self.wake()

    def wake(self) -> None:
        """Wake as many of those who wait as there is room for, the first ones first."""
        with self.lock:
            slots = self.deployment.concurrency
            room = len(self._queue) if slots is None else max(0, slots - self.health.in_flight)
            woken = list(islice(self._queue, room))
        for waiter in woken:
            waiter.wake()


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
        state.wake()
