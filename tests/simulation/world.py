"""Plays the providers and the callers of a schedule, and checks at every moment what must always hold."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from superstep.providers.policy.failures import Action, Failure, TooSlow, classify
from superstep.providers.policy.limits import WINDOW
from superstep.providers.routing.router import Ask, LeasedAnswer, Router
from tests.simulation.schedules import Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep.providers.catalog.model import Deployment
    from superstep.providers.routing.candidates import Candidate
    from tests.simulation.schedules import Schedule, ScheduledCall, Server, Spell

__all__ = ["ProviderRequest", "Made", "World"]


class Status(Exception):
    """A response with an error status, as SDKs raise it."""

    def __init__(self, status: int, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status_code = status
        self.code = code
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self.response = SimpleNamespace(status_code=status, headers=headers)


@dataclass(slots=True, eq=False)
class ProviderRequest:
    """One request that reached a provider.

    Attributes:
        made: the call it belongs to.
        name: of the deployment.
        began: virtual time.
        tokens: estimated, until the caller knows better.
        probe: whether the circuit was half-open.
        ended: when the provider was done with it, cleaning up included.
        failure: how it failed, if it did.
        answered: whether it was answered.
        left: when its slot was given back.
    """

    made: Made
    name: str
    began: float
    tokens: int
    probe: bool
    ended: float | None = None
    failure: Failure | None = None
    answered: bool = False
    left: float | None = None


@dataclass(slots=True, eq=False)
class Made:
    """A call that was made, and what became of it.

    Attributes:
        call: as scheduled.
        number: of the call.
        ask: what the router was asked.
        began: when.
        attempts: in order of their beginning.
        won: the attempt whose answer was used.
        error: what the router raised.
        cancelled_at: when its caller gave up.
        ended: when the caller had its answer or error.
    """

    call: ScheduledCall
    number: int
    ask: Ask
    began: float
    attempts: list[ProviderRequest] = field(default_factory=list)
    won: ProviderRequest | None = None
    error: BaseException | None = None
    cancelled_at: float | None = None
    ended: float | None = None


class World:
    """One schedule, running.

    Attributes:
        router: the one under test.
        made: the calls made so far.
        attempts: the requests that reached each deployment.
        broken: promises that were broken on the way.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.router = Router(schedule.catalog, cost=cost, rng=random.Random(schedule.seed))
        self.made: list[Made] = []
        self.attempts: dict[str, list[ProviderRequest]] = {name: [] for name in schedule.servers}
        self.broken: list[str] = []
        self._not_before: dict[str, float] = {}
        self._rng = random.Random(schedule.seed + 1)
        self._start = 0.0

    def now(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Make all calls and wait until each has ended."""
        self._start = self.now()
        async with asyncio.TaskGroup() as group:
            for number, call in enumerate(self.schedule.calls):
                group.create_task(self._arrive(number, call))

    # -- callers

    async def _arrive(self, number: int, call: ScheduledCall) -> None:
        await asyncio.sleep(call.at)
        ask = Ask("main", call.input_tokens, call.output_tokens)
        made = Made(call, number, ask, self.now())
        self.made.append(made)
        caller = asyncio.create_task(self._call(made))
        if call.cancelled_after is not None:
            await asyncio.wait({caller}, timeout=call.cancelled_after)
            if not caller.done():
                made.cancelled_at = self.now()
                caller.cancel()
        await asyncio.wait({caller})
        made.ended = self.now()
        made.error = asyncio.CancelledError() if caller.cancelled() else caller.exception()

    async def _call(self, made: Made) -> None:
        won = await self.router.route(made.ask, self.sender(made), self._discard)
        made.won = won.value
        try:
            await self._read(made, won)
        finally:
            won.lease.abandoned()  # no effect after `answered` or `failed`
            won.value.left = self.now()

    async def _read(self, made: Made, won: LeasedAnswer[ProviderRequest]) -> None:
        if made.call.read:
            await asyncio.sleep(made.call.read)
        now = self.now()
        if made.call.breaks and not self.schedule.servers[won.value.name].steady:
            failure = classify(ConnectionResetError(), status=200)
            won.lease.failed(now, failure)
            made.ask.attempts.failed(won.candidate, failure, ConnectionResetError(), won.value.began, now)
            return
        won.value.tokens = made.call.input_tokens + made.call.given
        won.lease.answered(now, tokens=won.value.tokens, output_tokens=made.call.given)

    async def _discard(self, attempt: ProviderRequest) -> None:
        attempt.left = self.now()

    # -- providers

    def sender(self, made: Made) -> Callable[[Candidate], Awaitable[ProviderRequest]]:
        """How a call asks a deployment."""

        async def send(candidate: Candidate) -> ProviderRequest:
            deployment = candidate.deployment
            attempt = self._begin(made, deployment)
            try:
                await self._answer(made.call, self.schedule.servers[deployment.name])
                attempt.answered = True
            except Exception as error:
                attempt.failure = classify(error)
                attempt.left = self.now()
                self._note_cooldown(attempt)
                raise
            except asyncio.CancelledError:
                attempt.left = self.now()
                if self.schedule.cleanup:  # closing a connection takes its time
                    await asyncio.sleep(self.schedule.cleanup)
                raise
            finally:
                attempt.ended = self.now()
            return attempt

        return send

    async def _answer(self, call: ScheduledCall, server: Server) -> None:
        limit = server.deployment.timeout
        try:
            async with asyncio.timeout(limit):
                await self._serve(call, server)
        except TimeoutError as error:
            raise TooSlow("no answer", limit) from error

    async def _serve(self, call: ScheduledCall, server: Server) -> None:
        spell = self._spell(server)
        trouble = None if spell is None else spell.trouble
        if trouble is Trouble.HANG:
            await asyncio.Event().wait()
        usual = server.latency * self._rng.uniform(0.5, 2.0)
        # Whole tenths, so that answers, cancellations and second attempts often meet at the same moment.
        await asyncio.sleep(round(usual * (20.0 if trouble is Trouble.SLOW else 1.0), 1))
        error = None if spell is None else self._error(spell)
        if error is not None:
            raise error
        if call.bad:
            raise Status(400)
        if call.input_tokens > server.window:
            raise Status(400, code="context_length_exceeded")
        if call.touchy and server.squeamish:
            raise Status(400, code="content_filter")

    def _error(self, spell: Spell) -> Exception | None:
        found: dict[Trouble, Exception] = {
            Trouble.OUTAGE: ConnectionRefusedError(),
            Trouble.BROKEN: Status(503),
            Trouble.STORM: Status(429, retry_after=spell.retry_after),
            Trouble.QUOTA: Status(429, code="insufficient_quota"),
            Trouble.GONE: Status(404),
            Trouble.REVOKED: Status(401),
            Trouble.GARBLED: Status(200),
        }
        if spell.trouble is Trouble.CRANKY and self._rng.random() < 0.5:
            return Status(500)
        return found.get(spell.trouble)

    def _spell(self, server: Server) -> Spell | None:
        since = self.now() - self._start
        return next((spell for spell in server.spells if spell.start <= since < spell.end), None)

    # -- what must hold whenever a provider is asked

    def _begin(self, made: Made, deployment: Deployment) -> ProviderRequest:
        now, name = self.now(), deployment.name
        state = self.router.state(deployment).breaker.state(now)
        attempt = ProviderRequest(made, name, now, made.ask.tokens, probe=state != "closed")
        self._check_circuit(attempt, state)
        self._check_limits(attempt, deployment)
        self._check_call(attempt, deployment)
        made.attempts.append(attempt)
        self.attempts[name].append(attempt)
        return attempt

    def _expect(self, promise: bool, broken: str) -> None:
        # Kept instead of raised: to the router, whatever a provider raises is one more failure.
        if not promise:
            self.broken.append(f"{self.now() - self._start:.3f} s: {broken}")

    def _check_circuit(self, attempt: ProviderRequest, state: str) -> None:
        self._expect(state != "open", f"{attempt.name} was asked although its circuit is open")
        others = [each for each in self.attempts[attempt.name] if each.left is None and each.probe]
        self._expect(not (attempt.probe and others), f"{attempt.name} has two probes at once")

    def _check_limits(self, attempt: ProviderRequest, deployment: Deployment) -> None:
        name, now, before = attempt.name, attempt.began, self.attempts[attempt.name]
        if deployment.concurrency is not None:
            in_flight = sum(each.left is None for each in before)
            self._expect(in_flight < deployment.concurrency, f"{name} has more calls in flight than its concurrency")
        window = [each for each in before if each.began + WINDOW > now]
        self._expect(deployment.rpm is None or len(window) < deployment.rpm, f"{name} got more requests than its rpm")
        if deployment.tpm is not None:
            used = sum(each.tokens for each in window)
            fits = used == 0 or used + attempt.tokens <= deployment.tpm
            self._expect(fits, f"{name} got more tokens than its tpm")
        self._expect(now >= self._not_before.get(name, now), f"{name} was asked before its retry-after")

    def _check_call(self, attempt: ProviderRequest, deployment: Deployment) -> None:
        made, name = attempt.made, attempt.name
        earlier = [each for each in made.attempts if each.name == name]
        self._expect(made.ended is None, "a call that has ended asked again")
        # What happens at the very same moment has no order: a second attempt may cross an answer.
        past = [each for each in made.attempts if each.ended is not None and each.ended < attempt.began]
        self._expect(made.cancelled_at in (None, attempt.began), "a call that was cancelled asked again")
        self._expect(not any(each.answered for each in past), "a call that was answered asked again")
        failures = [each.failure.action for each in past if each.failure is not None]
        self._expect(Action.STOP not in failures, "a call whose request was rejected asked again")
        self._expect(len(earlier) <= deployment.retries, f"one call asked {name} more often than 1 + retries")
        for each in earlier:
            may = each.failure is not None and each.failure.action is Action.RETRY
            why = "it was not done" if each.failure is None else each.failure.why
            self._expect(may, f"one call asked {name} again after: {why}")
        in_flight = sum(each.ended is None for each in made.attempts)
        allowed = 1 if self.schedule.catalog.routes["main"].hedge is not None else 0
        self._expect(in_flight <= allowed, "one call has more requests in flight than it may")

    def _note_cooldown(self, attempt: ProviderRequest) -> None:
        failure = attempt.failure
        if failure is not None and failure.action is Action.RETRY and failure.retry_after is not None:
            until = self.now() + failure.retry_after
            self._not_before[attempt.name] = max(until, self._not_before.get(attempt.name, until))


def cost(deployment: Deployment, input_tokens: int, output_tokens: int) -> float | None:
    """As configured."""
    price = deployment.price
    return None if price is None else (price.input * input_tokens + price.output * output_tokens) / 1e6
