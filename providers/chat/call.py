"""One routed call: what was asked, and from its beginning to its record.

Every call ends once: answered, failed, or abandoned (cancelled, or a stream that nobody read to its end). Each of these
makes a record, because each may have cost money. The record of an answer that somebody remembers travels with it, so
that both are stored at once; any other is handed to the process's recorder.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages.ai import UsageMetadata  # noqa: TC002 - a NamedTuple's fields are looked up

from superstep.providers.catalog.model import Deployment  # noqa: TC001 - likewise
from superstep.providers.catalog.pricing import cost
from superstep.providers.clock import now
from superstep.providers.policy.estimate import tokens
from superstep.providers.policy.failures import Failure, classify
from superstep.providers.records.ports import hooks
from superstep.providers.routing.attempt_log import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from superstep.providers.offline import OfflineRules
    from superstep.providers.records.call_record import CallRecord
    from superstep.providers.records.redaction import Redaction
    from superstep.providers.routing.budgets import Reservation
    from superstep.providers.routing.router import Ask, Won
    from superstep.runtime.faults import ProviderExhausted

__all__ = ["Call", "Request", "Said"]

_log = logging.getLogger(__name__)
_recording: set[asyncio.Task[None]] = set()  # records of abandoned calls on their way, kept from being collected


@dataclass(slots=True)
class Request:
    """One call of a routed model.

    Attributes:
        route: name of the route.
        messages: the conversation.
        stop: stop sequences.
        arguments: further keyword arguments of the call: tools, a wanted schema, temperature, …
        rules: what answers where the route is served offline.
        tags: tags of the call, for rules and the record.
        prompt: `NAME@VERSION` of the prompt that the messages were made from.
        digest: of everything that the answer depends on.
        kept: whoever remembers the answer keeps its record with it.
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


class Said(NamedTuple):
    """What one deployment said, or part of it.

    Attributes:
        deployment: who.
        text: what, with the arguments of tool calls.
        usage: its tokens, if the provider counted them.
        model: the model that the provider says it was.
    """

    deployment: Deployment
    text: str = ""
    usage: UsageMetadata | None = None
    model: str | None = None


class Call:
    """One routed call under way.

    Attributes:
        ask: it, as far as routing is concerned.
        reservation: what it has reserved of budgets.
        text: what was said by all deployments so far.
        first_token_at: when the first token came, of streams.
    """

    def __init__(self, request: Request, ask: Ask, reservation: Reservation, redaction: Redaction) -> None:
        self.ask = ask
        self.reservation = reservation
        self.text = ""
        self.first_token_at: float | None = None
        self._request = request
        self._redaction = redaction
        self._began = now()
        self._input_tokens = 0
        self._output_tokens = 0
        self._usd: float | None = 0.0

    def broke(self, won: Won[Any], said: Said, error: Exception) -> Failure:
        """A stream broke after its first token. What was said until then is paid for."""
        failure = classify(error, status=won.seen.status, headers=won.seen.headers)
        won.lease.failed(now(), failure)
        self.ask.trail.left(won.candidate, failure, error, won.lease.began, now())
        self._count(said)
        return failure

    async def answered(self, won: Won[Any], said: Said) -> CallRecord:
        """The call was answered: end its lease, and see to its record."""
        asked, given = self._count(said)
        won.lease.answered(now(), tokens=asked + given if said.usage else 0, output_tokens=given)
        record = self._record("answered", said)
        if not self._request.kept and (keep := hooks().record) is not None:
            await keep(record)
            record["content"] = None  # it is where it belongs; a conversation need not carry itself along
        return record

    async def failed(self, error: ProviderExhausted) -> None:
        """Nobody answered, or not to the end."""
        if (keep := hooks().record) is not None:
            await keep({**self._record("failed", None), "error": f"{type(error).__name__}: {error}"})

    def abandoned(self, said: Said | None = None) -> None:
        """The caller is gone. The record is made in the background, since whoever is cancelled must not wait."""
        keep = hooks().record
        if keep is None:
            return
        if said is not None:
            self._count(said)
        elif cancelled := sum(each["why"] == CANCELLED for each in self.ask.trail.tried):
            self._input_tokens += cancelled * self.ask.input_tokens  # who was being asked may send a bill
            self._usd = None

        async def record() -> None:
            try:
                await keep({**self._record("abandoned", said), "error": "abandoned by the caller"})
            except Exception:  # noqa: BLE001 - nobody waits for it
                _log.warning("An abandoned call of route %r could not be recorded", self.ask.route, exc_info=True)

        task = asyncio.get_running_loop().create_task(record())
        _recording.add(task)
        task.add_done_callback(_recording.discard)

    def _count(self, said: Said) -> tuple[int, int]:
        """Add what a deployment said to what the call has cost; its tokens in and out."""
        usage = said.usage
        # Some servers count the input only where nobody looks for it, and say 0 here.
        asked = (usage["input_tokens"] if usage else 0) or self.ask.input_tokens
        given = usage["output_tokens"] if usage else tokens(said.text)
        usd = cost(said.deployment, asked, given, usage.get("input_token_details") if usage else None)
        self.text += said.text
        self._input_tokens += asked
        self._output_tokens += given
        self._usd = None if usd is None or self._usd is None else self._usd + usd
        return asked, given

    def _record(self, outcome: str, said: Said | None) -> CallRecord:
        request, deployment = self._request, said.deployment if said else None
        return {
            "route": request.route,
            "outcome": outcome,
            "deployment": deployment.name if deployment else None,
            "provider": deployment.provider if deployment else None,
            "model": (said.model or deployment.model) if said and deployment else None,
            "tried": list(self.ask.trail.tried),
            "ms": self._ms(now()),
            "first_token_ms": None if self.first_token_at is None else self._ms(self.first_token_at),
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "usd": self._usd,
            "prompt": request.prompt,
            "request": request.digest,
            "tags": sorted(request.tags),
            "offline": deployment is not None and deployment.provider == "offline",
            "hedged": self.ask.trail.hedged,
            "error": None,
            "content": self._redaction.content(request.messages, self.text if said or self.text else None),
        }

    def _ms(self, at: float) -> float:
        return round((at - self._began) * 1000, 3)
