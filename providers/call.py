"""One routed call: what was asked, and from its beginning to its record."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from providers.hooks import hooks
from providers.policy.estimate import tokens
from providers.policy.failures import Failure, classify
from providers.pricing import cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.messages.ai import UsageMetadata

    from providers.budgets import Reservation
    from providers.calling import Opened
    from providers.offline import OfflineRules
    from providers.record import CallRecord
    from providers.redaction import Redaction
    from providers.router import Ask, Won
    from runtime.faults import ProviderExhausted

__all__ = ["Call", "Request"]


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
    """

    route: str
    messages: Sequence[BaseMessage]
    stop: list[str] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rules: OfflineRules | None = None
    tags: frozenset[str] = frozenset()
    prompt: str | None = None
    digest: str = ""


class Call:
    """One routed call under way.

    Attributes:
        ask: it, as far as routing is concerned.
        reservation: what it has reserved of budgets.
        said: what was said before its stream broke and another model went on.
    """

    def __init__(self, request: Request, ask: Ask, reservation: Reservation, redaction: Redaction) -> None:
        self.ask = ask
        self.reservation = reservation
        self.said = ""
        self._request = request
        self._redaction = redaction
        self._began = asyncio.get_running_loop().time()

    def say(self, text: str) -> str:
        """Add to what was said before the stream broke, and return all of it."""
        self.said += text
        return self.said

    def broke(self, won: Won[Opened], error: Exception) -> Failure:
        """A stream broke after its first token."""
        now = asyncio.get_running_loop().time()
        failure = classify(error, status=won.seen.status, headers=won.seen.headers)
        won.lease.failed(now, failure)
        self.ask.trail.left(won.candidate, failure, error, self._began, now)
        return failure

    def answered(
        self,
        won: Won[Any],
        usage: UsageMetadata | None,
        metadata: Mapping[str, Any],
        said: str,
        first_token_at: float | None,
    ) -> CallRecord:
        """The call was answered: end its lease, make its record."""
        now = asyncio.get_running_loop().time()
        deployment = won.candidate.deployment
        # Some servers count the input only where nobody looks for it, and say 0 here.
        asked = (usage["input_tokens"] if usage else 0) or self.ask.input_tokens
        given = usage["output_tokens"] if usage else tokens(said)
        won.lease.answered(now, tokens=asked + given if usage else 0, output_tokens=given)
        answered_by = metadata.get("model_name") or metadata.get("model")
        return {
            **self._common("answered", now),
            "deployment": deployment.name,
            "provider": deployment.provider,
            "model": str(answered_by or deployment.model),
            "first_token_ms": None if first_token_at is None else self._ms(first_token_at),
            "input_tokens": asked,
            "output_tokens": given,
            "usd": cost(deployment, asked, given, usage.get("input_token_details") if usage else None),
            "offline": deployment.provider == "offline",
            "error": None,
            "content": self._redaction.content(self._request.messages, said),
        }

    async def failed(self, error: ProviderExhausted) -> None:
        """Nobody answered: hand the record to whoever keeps records."""
        recorder = hooks().record
        if recorder is None:
            return
        await recorder(
            {
                **self._common("failed", asyncio.get_running_loop().time()),
                "deployment": None,
                "provider": None,
                "model": None,
                "first_token_ms": None,
                "input_tokens": 0,
                "output_tokens": 0,
                "usd": None,
                "offline": False,
                "error": f"{type(error).__name__}: {error}",
                "content": self._redaction.content(self._request.messages, None),
            }
        )

    def _common(self, outcome: str, now: float) -> CallRecord:
        request = self._request
        return {
            "route": request.route,
            "outcome": outcome,
            "tried": list(self.ask.trail.tried),
            "ms": self._ms(now),
            "prompt": request.prompt,
            "request": request.digest,
            "tags": sorted(request.tags),
            "hedged": self.ask.trail.hedged,
        }

    def _ms(self, at: float) -> float:
        return round((at - self._began) * 1000, 3)
