"""What this process knows of a deployment: its circuit, its limits, its slots, how fast it answers.

Calls of several event loops and threads share it, so every method that reads and changes it does so under one lock and
never waits.

Slots are given in order of arrival: a call is hindered where there are no more free slots than calls before it in line.
A call that ends wakes the first in line and no other, because waking all of them at every end costs time that grows
with the square of their number. A call that leaves the line, with a slot or without, wakes the next one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from bisect import bisect_left, insort
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from superstep.providers.policy.breaker import CircuitBreaker
from superstep.providers.policy.failures import Action
from superstep.providers.policy.limits import RateLimit
from superstep.providers.policy.strategies import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from superstep.providers.catalog.model import Deployment
    from superstep.providers.policy.breaker import Permit
    from superstep.providers.policy.failures import Failure
    from superstep.providers.policy.limits import Taken

__all__ = ["DeploymentState", "Hindrance", "Lease", "Waiter"]

_ranks = itertools.count()


class Hindrance(NamedTuple):
    """Why a deployment cannot take a call now, and when (loop time) that may end.

    `until` is infinity where only another call's end can tell, and `None` if it will not end by itself.
    """

    why: str
    until: float | None


class Waiter:
    """A call that waits, in the lines of all deployments it could use, until it begins at one or gives up.

    It waits in one event loop, and may be woken from any thread.

    Attributes:
        rank: its place in every line. A call that has to wait again has its old one.
    """

    def __init__(self) -> None:
        self.rank = next(_ranks)
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._timed: dict[DeploymentState, bool] = {}  # by where it stands

    def join(self, timed: Mapping[DeploymentState, bool]) -> None:
        """Stand in these lines and in no others: `timed` ones where it waits for a moment, not for another call."""
        self._leave([state for state, before in self._timed.items() if timed.get(state) is not before])
        for state in timed:
            if state not in self._timed:
                self._timed[state] = timed[state]
                state.enqueue(self, timed=timed[state])

    async def wait(self, until: float) -> None:
        """Until it is woken, or until then. Then look again: what changes after this is not missed."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._woken.wait()
        self._woken.clear()

    def leave(self) -> None:
        """Stand in no line any more."""
        self._leave(list(self._timed))

    def _leave(self, states: list[DeploymentState]) -> None:
        for state in states:
            state.dequeue(self, timed=self._timed.pop(state))

    def wake(self) -> None:
        """Have it look again."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # its loop has been closed around it: no call may stand behind it for ever
            self.leave()


class DeploymentState:
    """Circuit, limits, slots and line of one deployment. Safe to share by threads and event loops; nothing here waits.

    Attributes:
        deployment: the configuration that all of it follows.
        breaker: its circuit; an attempt begins only if it permits.
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
        self._line: list[Waiter] = []
        # They need no waking, but a call that takes fewer tokens than estimated may bring their moment forward.
        self._timed: list[Waiter] = []

    @property
    def waiting(self) -> int:
        """How many calls stand in line, whatever they wait for."""
        return len(self._line) + len(self._timed)

    def hindrance(self, now: float, tokens: int, waiter: Waiter | None = None) -> Hindrance | None:
        """Why the deployment cannot take a call of that many tokens now; `waiter` if the call has been waiting."""
        with self.lock:
            return self._hindrance(now, tokens, waiter)

    def _hindrance(self, now: float, tokens: int, waiter: Waiter | None) -> Hindrance | None:
        if not self.breaker.permits(now):
            reopens = self.breaker.reopens_at
            return Hindrance("circuit open", reopens if reopens is not None and reopens > now else math.inf)
        if self._free() <= self._ahead_of(waiter):
            return Hindrance("all slots taken", math.inf)
        wait = self.limit.wait(now, tokens)
        return Hindrance("rate limit", now + wait) if wait > 0 else None

    def _free(self) -> float:
        slots = self.deployment.concurrency
        return math.inf if slots is None else slots - self.health.in_flight

    def _ahead_of(self, waiter: Waiter | None) -> int:
        return len(self._line) if waiter is None else bisect_left(self._line, waiter.rank, key=_rank)

    def begin(self, now: float, tokens: int, waiter: Waiter | None = None) -> Lease | Hindrance:
        """Take the call, or say why it cannot be taken. A call that begins should `leave` its queues."""
        with self.lock:
            hindrance = self._hindrance(now, tokens, waiter)
            if hindrance is not None:
                return hindrance
            self.health.in_flight += 1
            return Lease(self, now, self.limit.take(now, tokens), self.breaker.begin(now))

    def enqueue(self, waiter: Waiter, *, timed: bool) -> None:
        """Let a call stand in line. A slot may have become free since it looked, so the first one looks again."""
        with self.lock:
            insort(self._timed if timed else self._line, waiter, key=_rank)
        self.wake()

    def dequeue(self, waiter: Waiter, *, timed: bool) -> None:
        """Undo `enqueue`, and wake the next one."""
        with self.lock:
            (self._timed if timed else self._line).remove(waiter)
        self.wake()

    def wake(self) -> None:
        """Wake the first in line, if there is a slot. Those who wait for a moment come apart from each other."""
        self._wake(self._line)

    def ended(self) -> None:
        """A call has ended: its slot is free, and perhaps some of its tokens."""
        self._wake(self._line)
        self._wake(self._timed)

    def _wake(self, line: list[Waiter]) -> None:
        with self.lock:
            first = line[0] if line and self._free() > 0 else None
        if first is not None:
            first.wake()


def _rank(waiter: Waiter) -> int:
    return waiter.rank


class Lease:
    """One call in flight at a deployment. It ends once, in one of three ways; further ends are ignored.

    Attributes:
        began: when it was taken, in loop time.
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
        """The call failed. Whether that counts on the circuit, and closes the limit for a while, is in the failure."""

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
        state.ended()
