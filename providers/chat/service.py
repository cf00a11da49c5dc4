"""What all routed models of a process share: one router, one set of clients, one ledger.

`Service.answer` and `Service.stream` are a routed call from its request to its record: budget, routing, tokens, cost.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import AIMessage, HumanMessage

from superstep.providers.catalog.pricing import cost
from superstep.providers.chat.call import Call, ChatRequest, Output
from superstep.providers.chat.stream_accumulator import StreamAccumulator
from superstep.providers.policy.estimate import tokens_of
from superstep.providers.policy.failures import Action
from superstep.providers.policy.recent import RecentTokens
from superstep.providers.policy.usage import StreamedUsage, sound
from superstep.providers.records.redaction import Redaction, without_secret
from superstep.providers.routing.ask import Ask
from superstep.providers.routing.attempt_log import AttemptLog
from superstep.providers.routing.budgets import Budgets, held_reservations, limit_of
from superstep.providers.routing.router import Router
from superstep.providers.transport.clients import Clients, missing_key, secret_of
from superstep.providers.transport.invoke import Caller, OpenedStream
from superstep.providers.transport.proxies import proxy_variable
from superstep.providers.transport.wire import SCHEMA, Wire, says_totals
from superstep.runtime.faults import ProviderExhausted, RuntimeFault
from superstep.runtime.formats import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

    from superstep.providers.catalog.model import Catalog, Deployment
    from superstep.providers.routing.router import Discard, LeasedAnswer, Send

__all__ = ["Service"]

T = TypeVar("T")

# What a model is told when it has to go on where another one's stream broke.
_GO_ON = "Your answer broke off there. Continue it exactly where it stopped, without repeating anything."


class Service:
    """Answers the calls of all routed models of a process. Safe to share by event loops and threads.

    Attributes:
        catalog: what is configured.
        router: what is known of its deployments, and which of them is asked next.
        clients: their connections.
        budgets: what calls in flight have reserved.
        recent: what calls lately took.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.router = Router(catalog, cost=cost, unusable=missing_key)
        self.clients = Clients()
        self.recent = RecentTokens()
        self.budgets = Budgets(catalog, self.recent)
        self._redaction = Redaction(catalog.recording)
        self._wire = Wire()

    async def answer(self, request: ChatRequest) -> ChatResult:
        """The answer, with its record in the message's `response_metadata["routing"]`.

        Raises:
            ProviderRejected: a provider says that the request itself is wrong.
            ProviderExhausted: no deployment answered.
            BudgetExceeded: a budget does not allow the call; no deployment was asked.
            ConfigError: there is no such route.
        """
        call = await self._begin(request)
        try:
            answer = await self._routed(call, _sending(self._caller(request, request.messages).whole), _nothing)
            try:
                message = answer.value.generations[0].message
                output = _whole_output(answer)
                record = await call.answered(answer, output)
                message.response_metadata = {**message.response_metadata, RECORD_KEY: record}
                return answer.value
            finally:
                answer.lease.abandoned()  # no effect on one that has ended: whatever fails here, its slot is free
        finally:
            call.close()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatGenerationChunk, None]:
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
            call.close()

    async def _streamed(self, call: Call, request: ChatRequest) -> AsyncGenerator[ChatGenerationChunk, None]:
        messages = list(request.messages)
        while True:
            answer = await self._routed(call, _sending(self._caller(request, messages).opened), OpenedStream.aclose)
            call.first_token_at = call.first_token_at or answer.value.first_token_at
            stream, broken = StreamAccumulator(), None
            usage = StreamedUsage(totals=says_totals(answer.candidate.deployment))
            try:
                async for chunk in answer.value.chunks():
                    usage.take(chunk.message)
                    ready = stream.take(chunk)
                    if ready is not None:
                        yield ready
            except Exception as error:
                if isinstance(error, RuntimeFault):
                    answer.lease.abandoned()
                    raise
                broken = error
            except BaseException:  # cancelled, or not read on
                answer.lease.abandoned()
                call.abandoned(_output(answer, stream, usage.total))
                raise
            finally:
                await answer.value.aclose()
            if broken is None:
                try:
                    record = await call.answered(answer, _output(answer, stream, usage.total))
                finally:
                    answer.lease.abandoned()
                yield stream.last({**stream.metadata, RECORD_KEY: record}, usage.total)
                return
            failure = call.broke(answer, _output(answer, stream, usage.total), broken)
            if not (answer.candidate.route.continue_text and stream.only_text and failure.action is not Action.STOP):
                exhausted = call.ask.attempts.broken(answer.candidate, len(call.text))
                await call.failed(exhausted)
                raise exhausted
            call.ask.without |= {answer.candidate.deployment.name}
            if call.text:
                messages = [*request.messages, AIMessage(call.text), HumanMessage(_GO_ON)]

    async def _routed(self, call: Call, send: Send[T], discard: Discard[T]) -> LeasedAnswer[T]:
        """Have the call answered, and see to its record if it is not."""
        failure: ProviderExhausted
        try:
            with call.current():
                return await self.router.route(call.ask, send, discard)
        except ProviderExhausted as error:
            failure = error
        except RuntimeFault as error:
            if call.ask.attempts.tried:  # what was tried before may be on the bill
                await call.failed(error)
            raise
        except asyncio.CancelledError:
            call.abandoned()
            raise
        # Not inside of `except`: the vendor's own error would hang on to this one as its context, key and all.
        failure.__context__ = None
        await call.failed(failure)
        raise failure

    def _caller(self, request: ChatRequest, messages: Sequence[BaseMessage]) -> Caller:
        model = partial(self.clients.model, route=request.route, rules=request.rules)
        return Caller(self._wire, model, messages, request.stop, request.arguments)

    async def _begin(self, request: ChatRequest) -> Call:
        offered = [str(request.arguments[key]) for key in ("tools", SCHEMA) if request.arguments.get(key)]
        input_tokens = tokens_of([*(message.text for message in request.messages), *offered])
        ask = Ask(request.route, input_tokens, limit_of(request.arguments), request.tags)
        ask.attempts = AttemptLog(_clean, _proxy)
        reservation = await self.budgets.reserve(ask, cost)
        collected = held_reservations.get()
        if collected is not None:
            collected.append(reservation.retain())
        return Call(request, ask, reservation, self._redaction, self.recent)


def _sending(ask: Callable[..., Awaitable[T]]) -> Send[T]:
    """How the router asks a candidate. A refusal is an answer where the route has no other deployment to ask."""
    return lambda candidate: ask(candidate.deployment, may_refuse=not candidate.route.content_fallbacks)


def _clean(deployment: Deployment, error: Exception) -> Exception:
    return without_secret(error, secret_of(deployment))


def _proxy(deployment: Deployment) -> str | None:
    return None if deployment.provider == "offline" else proxy_variable(deployment.base_url)


def _whole_output(answer: LeasedAnswer[ChatResult]) -> Output:
    result = answer.value
    generation, message = result.generations[0], result.generations[0].message
    told = {**(result.llm_output or {}), **(generation.generation_info or {}), **message.response_metadata}
    usage = None
    if isinstance(message, AIMessage):
        usage = message.usage_metadata = sound(message.usage_metadata)
    calls = "".join(str(each["args"]) for each in getattr(message, "tool_calls", ()))
    return Output(answer.candidate.deployment, message.text + calls, usage, _model(told))


def _output(answer: LeasedAnswer[OpenedStream], stream: StreamAccumulator, usage: UsageMetadata | None) -> Output:
    text = stream.text + stream.calls
    return Output(answer.candidate.deployment, text, usage, _model(stream.metadata))


def _model(metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("model_name") or metadata.get("model")
    return str(name) if name else None


async def _nothing(_: ChatResult) -> None:
    """A whole answer that came too late needs no closing."""
