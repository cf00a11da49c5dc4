"""What all routed models of a process share: one router, one set of clients, one ledger.

`Service.answer` and `Service.stream` are a routed call from its request to its record: budget, routing, tokens, cost.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import AIMessage, HumanMessage

from superstep.providers.catalog.pricing import cost
from superstep.providers.chat.call import Call, Request, Said
from superstep.providers.chat.stream_accumulator import Tail
from superstep.providers.policy.estimate import tokens_of
from superstep.providers.policy.failures import Action
from superstep.providers.records.call_record import KEY
from superstep.providers.records.redaction import Redaction, without_secret
from superstep.providers.routing.attempt_log import Trail
from superstep.providers.routing.budgets import Budgets, Reservation, held, limit_of
from superstep.providers.routing.candidates import find_route
from superstep.providers.routing.router import Ask, Router
from superstep.providers.transport.clients import Clients, missing_key, secret_of
from superstep.providers.transport.invoke import Caller, Opened
from superstep.providers.transport.wire import SCHEMA, Wire
from superstep.runtime.faults import ProviderExhausted, RuntimeFault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

    from superstep.providers.catalog.model import Catalog, Deployment
    from superstep.providers.routing.router import Discard, Send, Won

__all__ = ["Request", "Service"]

T = TypeVar("T")

# What a model is told when it has to go on where another one's stream broke.
_GO_ON = "Your answer broke off there. Continue it exactly where it stopped, without repeating anything."


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
            won = await self._routed(call, _sending(self._caller(request, request.messages).whole), _nothing)
            generation = won.value.generations[0]
            message = generation.message
            told = {**(won.value.llm_output or {}), **(generation.generation_info or {}), **message.response_metadata}
            usage = message.usage_metadata if isinstance(message, AIMessage) else None
            calls = "".join(str(each["args"]) for each in getattr(message, "tool_calls", ()))
            said = Said(won.candidate.deployment, message.text + calls, usage, _model(told))
            message.response_metadata = {**message.response_metadata, KEY: await call.answered(won, said)}
            return won.value
        finally:
            call.reservation.release()

    async def stream(self, request: Request) -> AsyncGenerator[ChatGenerationChunk, None]:
        """The chunks of the answer; the last one has the record. Raises what `answer` does.

        Before the first token a failure goes unnoticed: another deployment is asked. After it, what was said cannot be
        taken back: the stream ends with `ProviderExhausted`, unless only text was said and the route lets another model
        continue text (`continue_text`). A tool call is never put together from two models.
        """
        call = await self._begin(request)
        try:
            async with aclosing(self._streamed(call, request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            call.reservation.release()

    async def _streamed(self, call: Call, request: Request) -> AsyncGenerator[ChatGenerationChunk, None]:
        messages = list(request.messages)
        while True:
            won = await self._routed(call, _sending(self._caller(request, messages).opened), Opened.aclose)
            call.first_token_at = call.first_token_at or won.value.first_token_at
            tail, broken = Tail(), None
            try:
                async for chunk in won.value.chunks():
                    ready = tail.take(chunk)
                    if ready is not None:
                        yield ready
            except Exception as error:
                if isinstance(error, RuntimeFault):
                    won.lease.abandoned()
                    raise
                broken = error
            except BaseException:  # cancelled, or nobody reads on
                won.lease.abandoned()
                call.abandoned(_said(won, tail))
                raise
            finally:
                await won.value.aclose()
            if broken is None:
                record = await call.answered(won, _said(won, tail))
                yield tail.last({**tail.metadata, KEY: record})
                return
            failure = call.broke(won, _said(won, tail), broken)
            if not (won.candidate.route.continue_text and tail.only_text and failure.action is not Action.STOP):
                exhausted = call.ask.trail.broken(won.candidate, len(call.text))
                await call.failed(exhausted)
                raise exhausted
            call.ask.without |= {won.candidate.deployment.name}
            if call.text:
                messages = [*request.messages, AIMessage(call.text), HumanMessage(_GO_ON)]

    async def _routed(self, call: Call, send: Send[T], discard: Discard[T]) -> Won[T]:
        """Have the call answered, and see to its record if it is not."""
        failure: ProviderExhausted
        try:
            return await self.router.route(call.ask, send, discard)
        except ProviderExhausted as error:
            failure = error
        except asyncio.CancelledError:
            call.abandoned()
            raise
        # Not inside of `except`: the vendor's own error would hang on to this one as its context, key and all.
        failure.__context__ = None
        await call.failed(failure)
        raise failure

    def _caller(self, request: Request, messages: Sequence[BaseMessage]) -> Caller:
        def model(deployment: Deployment) -> BaseChatModel:
            return self.clients.model(deployment, request.route, request.rules)

        return Caller(self._wire, model, messages, request.stop, request.arguments)

    async def _begin(self, request: Request) -> Call:
        find_route(self.catalog, request.route)
        offered = [str(request.arguments[key]) for key in ("tools", SCHEMA) if request.arguments.get(key)]
        asked_tokens = tokens_of([*(message.text for message in request.messages), *offered])
        ask = Ask(request.route, asked_tokens, limit_of(request.arguments), request.tags)
        ask.trail = Trail(_clean)
        reservation = await self.budgets.reserve(ask, cost)
        later = held.get()
        if later is not None:
            later.append(reservation)
            reservation = Reservation()
        return Call(request, ask, reservation, self._redaction)


def _sending(ask: Callable[..., Awaitable[T]]) -> Send[T]:
    """How the router asks a candidate. A refusal is an answer where the route has no other deployment to ask."""
    return lambda candidate: ask(candidate.deployment, may_refuse=not candidate.route.content_fallbacks)


def _clean(deployment: Deployment, error: Exception) -> Exception:
    return without_secret(error, secret_of(deployment))


def _said(won: Won[Opened], tail: Tail) -> Said:
    return Said(won.candidate.deployment, tail.text + tail.calls, tail.usage, _model(tail.metadata))


def _model(metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("model_name") or metadata.get("model")
    return str(name) if name else None


async def _nothing(_: ChatResult) -> None:
    """A whole answer that came too late needs no closing."""
