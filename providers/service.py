"""What all routed models of a process share: one router, one set of clients, one ledger.

`Service.answer` and `Service.stream` are a routed call from its request to its record: budget, routing, tokens, cost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import ChatGenerationChunk

from providers.budgets import Budgets, Reservation, held
from providers.calling import Caller, Opened
from providers.candidates import find_route
from providers.clients import Clients, missing_key, secret_of
from providers.hooks import hooks
from providers.policy.estimate import tokens, tokens_of
from providers.policy.failures import Action, Failure, classify
from providers.pricing import cost
from providers.record import KEY, CallRecord
from providers.redaction import Redaction, without_secret
from providers.router import Ask, Router, Won
from providers.trail import Trail
from providers.wire import Wire
from runtime.faults import ProviderExhausted, RuntimeFault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import ChatResult

    from providers.config import Catalog, Deployment
    from providers.offline import OfflineRules

__all__ = ["Request", "Service"]

# What a model is told when it has to go on where another one's stream broke.
_GO_ON = "Your answer broke off there. Continue it exactly where it stopped, without repeating anything."


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


class Service:
    """See the module. Safe to share by event loops and threads.

    Attributes:
        catalog: what is configured.
        router: the state of its deployments.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.router = Router(catalog, cost=cost, unusable=missing_key)
        self.clients = Clients()
        self.budgets = Budgets(catalog)
        self._redaction = Redaction(catalog.recording)
        self._wire = Wire()

    async def answer(self, request: Request) -> ChatResult:
        """The answer, with its record in the message's `response_metadata["routing"]`.

        Raises:
            ProviderRejected: a provider says that the request itself is wrong.
            ProviderExhausted: nobody answered.
            BudgetExceeded: a budget does not allow the call; nobody was asked.
        """
        call = await self._begin(request)
        try:
            won = await self.router.route(call.ask, call.caller(request.messages).whole, _nothing)
        except ProviderExhausted as error:
            await call.failed(error)
            raise
        finally:
            call.reservation.release()
        result = won.value
        message = result.generations[0].message
        usage = message.usage_metadata if isinstance(message, AIMessage) else None
        said = message.text or str(getattr(message, "tool_calls", ""))
        record = call.answered(won, usage, message.response_metadata, said, None)
        message.response_metadata = {**message.response_metadata, KEY: record}
        return result

    async def stream(self, request: Request) -> AsyncGenerator[ChatGenerationChunk, None]:
        """The chunks of the answer; the last one has the record. Raises what `answer` does.

        Before the first token a failure goes unnoticed: another deployment is asked. After it, what was said cannot be
        taken back: the stream ends with `ProviderExhausted`, unless only text was said and the route lets another model
        continue text (`continue_text`). A tool call is never put together from two models.
        """
        call = await self._begin(request)
        try:
            async for chunk in self._streamed(call, request):
                yield chunk
        finally:
            call.reservation.release()

    async def _streamed(self, call: _Call, request: Request) -> AsyncGenerator[ChatGenerationChunk, None]:
        messages = list(request.messages)
        while True:
            caller = call.caller(messages)
            try:
                won = await self.router.route(call.ask, caller.opened, Opened.aclose)
            except ProviderExhausted as error:
                await call.failed(error)
                raise
            tail = _Tail()
            try:
                async for chunk in won.value.chunks():
                    ready = tail.take(chunk)
                    if ready is not None:
                        yield ready
            except RuntimeFault:
                won.lease.abandoned()
                raise
            except Exception as error:  # noqa: BLE001 - whatever an SDK raises is judged by the policy
                failure = call.broke(won, error)
                if not (won.candidate.route.continue_text and tail.only_text and failure.action is not Action.STOP):
                    exhausted = call.ask.trail.broken(won.candidate, tail.characters)
                    await call.failed(exhausted)
                    raise exhausted from None
                call.ask.without |= {won.candidate.deployment.name}
                if tail.text:
                    messages = [*request.messages, AIMessage(call.say(tail.text)), HumanMessage(_GO_ON)]
            else:
                at = won.value.first_token_at
                metadata = tail.metadata
                record = call.answered(won, tail.usage, metadata, call.said + tail.text, at)
                yield tail.last({**metadata, KEY: record})
                return
            finally:
                won.lease.abandoned()  # left early: no effect after `answered` or `failed`
                await won.value.aclose()

    async def _begin(self, request: Request) -> _Call:
        find_route(self.catalog, request.route)
        asked_tokens = tokens_of(message.text for message in request.messages)
        asked_tokens += tokens(str(request.arguments["tools"])) if request.arguments.get("tools") else 0
        limit = request.arguments.get("max_tokens") or request.arguments.get("max_completion_tokens")
        ask = Ask(request.route, asked_tokens, limit if isinstance(limit, int) else 0, request.tags)
        ask.trail = Trail(_clean)
        reservation = await self.budgets.reserve(ask, cost)
        later = held.get()
        if later is not None:
            later.append(reservation)
            reservation = Reservation()
        return _Call(self, request, ask, reservation)


class _Call:
    """One routed call under way: when it began, and what its record will say."""

    def __init__(self, service: Service, request: Request, ask: Ask, reservation: Reservation) -> None:
        self.ask = ask
        self.reservation = reservation
        self.said = ""
        self._service = service
        self._request = request
        self._began = asyncio.get_running_loop().time()

    def caller(self, messages: Sequence[BaseMessage]) -> Caller:
        """Asks deployments with these messages."""
        service, request = self._service, self._request

        def model(deployment: Deployment) -> Any:
            return service.clients.model(deployment, request.route, request.rules)

        return Caller(service._wire, model, messages, request.stop, request.arguments)  # noqa: SLF001 - one module

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
            "content": self._service._redaction.content(self._request.messages, said),  # noqa: SLF001 - one module
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
                "content": self._service._redaction.content(self._request.messages, None),  # noqa: SLF001 - one module
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


class _Tail:
    """Lets content pass at once and keeps what only describes it, so that the record can go into the last chunk."""

    def __init__(self) -> None:
        self.text = ""
        self.characters = 0
        self.only_text = True
        self.usage: UsageMetadata | None = None
        self._held: ChatGenerationChunk | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Response metadata of what is held back."""
        held = self._held
        return {} if held is None else {**held.message.response_metadata, **(held.generation_info or {})}

    def take(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk | None:
        """The chunk, if it has content (with what was held back before it); else hold it back."""
        message = chunk.message
        if isinstance(message, AIMessageChunk):
            if message.usage_metadata is not None:
                self.usage = add_usage(self.usage, message.usage_metadata)
            self.only_text = self.only_text and not message.tool_call_chunks and not _beyond_text(message)
            message.chunk_position = None
        self.text += message.text
        self.characters += len(message.text)
        if self._held is not None:
            chunk = self._held + chunk
            self._held = None
        if message.content or getattr(message, "tool_call_chunks", None):
            return chunk
        self._held = chunk
        return None

    def last(self, metadata: dict[str, Any]) -> ChatGenerationChunk:
        """What was held back, as the last chunk of the answer."""
        held = self._held or ChatGenerationChunk(message=AIMessageChunk(content=""))
        held.message.response_metadata = metadata
        held.generation_info = None
        if isinstance(held.message, AIMessageChunk):
            held.message.chunk_position = "last"
        return held


def _beyond_text(message: AIMessageChunk) -> bool:
    """Whether the chunk says anything that is no text: reasoning, images, a part of a tool's input."""
    if isinstance(message.content, str):
        return False
    return any(not isinstance(block, str) and block.get("type") != "text" for block in message.content)


def _clean(deployment: Deployment, error: Exception) -> Exception:
    return without_secret(error, secret_of(deployment))


async def _nothing(_: ChatResult) -> None:
    """A whole answer that came too late needs no closing."""
