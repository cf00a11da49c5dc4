"""One routed call: its request, and from its beginning to its record.

Every call ends once: answered, failed, or abandoned (cancelled, or a stream that was not read to its end). Each of
these makes a record, because each may have cost money. The record of an answer that a cache keeps travels with it, so
that both are stored at once; any other is handed to the process's recorder.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages.ai import UsageMetadata  # noqa: TC002 - a NamedTuple's fields are looked up

from superstep.providers.catalog.model import Deployment  # noqa: TC001 - likewise
from superstep.providers.catalog.pricing import cost
from superstep.providers.clock import now
from superstep.providers.policy.estimate import tokens
from superstep.providers.policy.failures import Failure, classify
from superstep.providers.records.ports import hooks
from superstep.providers.routing.budgets import limit_of
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from langchain_core.messages import BaseMessage

    from superstep.providers.offline import OfflineRules
    from superstep.providers.policy.recent import RecentTokens
    from superstep.providers.records.call_record import CallRecord
    from superstep.providers.records.redaction import Redaction
    from superstep.providers.routing.ask import Ask
    from superstep.providers.routing.budgets import Reservation
    from superstep.providers.routing.router import LeasedAnswer
    from superstep.runtime.faults import RuntimeFault

__all__ = ["Call", "ChatRequest", "Output"]

_log = logging.getLogger(__name__)
_recording: set[asyncio.Task[None]] = set()  # records of abandoned calls on their way, kept from being collected


@dataclass(slots=True)
class ChatRequest:
    """One call of a routed model.

    Attributes:
        route: name of the route.
        messages: the conversation; sent as it is.
        stop: texts that end the answer.
        arguments: further keyword arguments of the call: tools, a wanted schema, temperature, …
        rules: what answers where the route is served offline.
        tags: tags of the call, for rules and the record.
        prompt: `NAME@VERSION` of the prompt that the messages were made from.
        digest: hexadecimal, of everything that the answer depends on.
        kept: a cache stores the answer, and the record with it.
    """

    route: str
    messages: Sequence[BaseMessage]
    stop: list[str] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rules: OfflineRules | None = None
    tags: frozenset[str] = frozenset()
    prompt: str | None = None
    digest: str = ""
    kept: bool = False


class Output(NamedTuple):
    """What one deployment answered, or part of it.

    Attributes:
        deployment: the one that gave it.
        text: as far as it came, with the arguments of tool calls.
        usage: its tokens, if the provider counted them.
        model: the one that the provider names in its answer.
    """

    deployment: Deployment
    text: str = ""
    usage: UsageMetadata | None = None
    model: str | None = None


class Call:
    """One routed call under way.

    Attributes:
        ask: what the router knows of it.
        reservation: what it has reserved of budgets, to be released when it has ended.
        text: of all deployments that answered a part of it.
        first_token_at: when the first token came, in loop time; of streams.
        trace: its span; `None` while telemetry is off.
    """

    def __init__(
        self, request: ChatRequest, ask: Ask, reservation: Reservation, redaction: Redaction, recent: RecentTokens
    ) -> None:
        self.ask = ask
        self.reservation = reservation
        self.text = ""
        self.first_token_at: float | None = None
        self.trace = active.telemetry.call(request.route) if active.telemetry is not None else None
        self._request = request
        self._redaction = redaction
        self._recent = recent
        self._began = now()
        self._input_tokens = 0
        self._output_tokens = 0
        self._usd: float | None = 0.0

    def broke(self, answer: LeasedAnswer[Any], output: Output, error: Exception) -> Failure:
        """A stream broke after its first token. Its output until then is paid for."""
        failure = classify(error, status=answer.response.status, headers=answer.response.headers)
        answer.lease.failed(now(), failure)
        self.ask.attempts.failed(
            answer.candidate, failure, error, answer.lease.began, now(), sent=False
        )  # counted here
        self._count(output)
        return failure

    async def answered(self, answer: LeasedAnswer[Any], output: Output) -> CallRecord:
        """End the lease of the whole answer.

        Returns:
            The record to travel with it. It has been handed to the process's recorder unless the request is `kept`.
        """
        read, written = self._count(output)
        self._recent.observe(output.deployment.name, estimated=self.ask.input_tokens, read=read, written=written)
        self._charge(written)
        answer.lease.answered(now(), tokens=read + written if output.usage else 0, output_tokens=written)
        record = self._record("answered", output)
        if not self._request.kept and (keep := hooks().record) is not None:
            await keep(record)
            record["content"] = None  # it is where it belongs; a conversation need not carry itself along
        return record

    async def failed(self, error: RuntimeFault) -> None:
        """No deployment answered, or none to the end: hand the record to the process's recorder."""
        self._charge(None)
        record = self._record("failed", None, f"{type(error).__name__}: {error}")
        if (keep := hooks().record) is not None:
            await keep(record)

    def abandoned(self, output: Output | None = None) -> None:
        """The caller is gone. The record is stored in the background, since a cancelled caller must not wait."""
        keep, reservation = hooks().record, self.reservation.retain()
        if keep is None:
            reservation.release()
            return
        if output is not None:
            self._count(output)
        self._charge(None)
        try:  # at once: the run that it is charged to may be over in a moment
            recording = keep(self._record("abandoned", output, "abandoned by the caller"))
        except Exception:  # noqa: BLE001 - no caller is left to raise it to
            _log.warning("An abandoned call of route %r could not be recorded", self.ask.route, exc_info=True)
            reservation.release()
            return

        async def record() -> None:
            try:
                await recording
            except Exception:  # noqa: BLE001 - no caller is left to raise it to
                _log.warning("An abandoned call of route %r could not be recorded", self.ask.route, exc_info=True)

        task = asyncio.get_running_loop().create_task(record())
        _recording.add(task)
        task.add_done_callback(_recording.discard)
        task.add_done_callback(lambda _: reservation.release())  # what it has spent is known from now on

    def current(self) -> AbstractContextManager[None]:
        """Around what is sent: with telemetry, that belongs to the call's span."""
        return nullcontext() if self.trace is None else self.trace.current()

    def close(self) -> None:
        """Its caller has nothing more of it: what it has reserved is free."""
        if self.trace is not None:
            self.trace.close()
        self.reservation.release()

    def _count(self, output: Output) -> tuple[int, int]:
        """Add a deployment's output to what the call has cost; its tokens in and out."""
        usage = output.usage
        # Some servers count in fields of their own, and say 0 here.
        read = (usage["input_tokens"] if usage else 0) or self.ask.input_tokens
        written = (usage["output_tokens"] if usage else 0) or tokens(output.text)
        self.text += output.text
        self._add(output.deployment, read, written, usage)
        return read, written

    def _charge(self, written: int | None) -> None:
        """Add what attempts without an answer may have cost; `written`: tokens of the answer that another one gave."""
        for charge in self.ask.attempts.take_charges():
            usage = charge.usage
            read = (usage["input_tokens"] if usage else 0) or self.ask.input_tokens
            guess = usage["output_tokens"] if usage else self._likely(charge.deployment, written)
            charge.entry["usd"] = self._add(charge.deployment, read, guess, usage)

    def _likely(self, deployment: Deployment, written: int | None) -> int:
        """Output of an attempt that nobody has counted: as much as another one said, or as calls lately took."""
        limit = self.ask.output_tokens or limit_of(deployment.parameters)
        lately = self._recent.largest([deployment.name])
        guess = written if written is not None else lately.output if lately.calls else limit
        return min(guess, limit) if limit else guess

    def _add(self, deployment: Deployment, read: int, written: int, usage: UsageMetadata | None) -> float | None:
        usd = cost(deployment, read, written, usage.get("input_token_details") if usage else None)
        self._input_tokens += read
        self._output_tokens += written
        self._usd = None if usd is None or self._usd is None else self._usd + usd
        return usd

    def _record(self, outcome: str, output: Output | None, error: str | None = None) -> CallRecord:
        request, deployment = self._request, output.deployment if output else None
        record: CallRecord = {
            "route": request.route,
            "outcome": outcome,
            "deployment": deployment.name if deployment else None,
            "provider": deployment.provider if deployment else None,
            "model": (output.model or deployment.model) if output and deployment else None,
            "tried": list(self.ask.attempts.tried),
            "ms": self._ms(now()),
            "first_token_ms": None if self.first_token_at is None else self._ms(self.first_token_at),
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "usd": self._usd,
            "prompt": request.prompt,
            "request": request.digest,
            "tags": sorted(request.tags),
            "offline": deployment is not None and deployment.provider == "offline",
            "hedged": self.ask.attempts.hedged,
            "error": error,
            "content": self._redaction.content(request.messages, self.text if output or self.text else None),
        }
        if self.trace is not None:
            self.trace.ended(record, deployment.model if deployment else None, request.messages, self.text)
        return record

    def _ms(self, at: float) -> float:
        return round((at - self._began) * 1000, 3)
