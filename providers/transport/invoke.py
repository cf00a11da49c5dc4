"""Asking one deployment: its model's own wire mapping, under the deployment's time limits.

Two ways: for a whole answer, or for a stream whose first token has arrived. Whatever an SDK raises is passed on; what
it silently lets through is raised here: a stream that was cut, an answer without any choice, a refusal where the caller
has another deployment to ask. An answer that is empty and says so properly is one: models end a turn that way.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from superstep.providers.clock import now
from superstep.providers.policy.failures import ContentRefused, MalformedAnswer, StreamCut, TooSlow
from superstep.providers.transport.chunks import as_chunk
from superstep.providers.transport.wire import Wire, ended, refused, said_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult

    from superstep.providers.catalog.model import Deployment

__all__ = ["Caller", "OpenedStream"]

_REFUSED = "The model refused the content."
# Seconds that a stream which has said why it ended is still read: until its tokens are counted, then only so that its
# connection can be used again. Some servers leave it open.
_FOR_USAGE, _FOR_THE_CONNECTION = 2.0, 0.5


class OpenedStream:
    """A stream whose first content has arrived. Iterate it once; `aclose` it if it is left early."""

    def __init__(
        self, deployment: Deployment, chunks: AsyncGenerator[ChatGenerationChunk, None], *, may_refuse: bool = True
    ) -> None:
        """`may_refuse`: a stream of nothing but a refusal is an answer."""
        self.first_token_at = 0.0
        self._deployment = deployment
        self._may_refuse = may_refuse
        self._chunks = chunks
        self._left = deployment.timeout  # seconds of waiting; what the reader takes is not the provider's
        self._early: list[ChatGenerationChunk] = []
        self._metadata: dict[str, Any] = {}
        self._counted = False  # whether a chunk has said how many tokens it took

    async def start(self) -> None:
        """Wait for the first chunk with content; what comes before it is kept.

        Raises:
            TooSlow: it did not come in time.
            StreamCut: the stream ended without any, and without saying why.
            ContentRefused: it ended with a refusal, which is no answer here.
        """
        limit = self._deployment.first_token_timeout
        latest = None if limit is None else now() + limit
        while (early := await self._next(latest, limit, "no first token")) is not None:
            self._early.append(early)
            if _says_something(early):
                break
        else:
            self._check_end()
            if not self._may_refuse and any(refused(chunk.message, self._metadata) for chunk in self._early):
                counts = [getattr(chunk.message, "usage_metadata", None) for chunk in self._early]
                raise ContentRefused(_REFUSED, next((each for each in reversed(counts) if each), None))
        self.first_token_at = now()

    async def chunks(self) -> AsyncGenerator[ChatGenerationChunk, None]:
        """All chunks, those that came early first.

        Raises:
            TooSlow: the next token, or the whole answer, took too long.
            StreamCut: the stream ended without saying why.
        """
        for early in self._early:
            yield early
        limit = self._deployment.token_timeout
        while True:
            chunk = await self._next(None if limit is None else now() + limit, limit, "no further token")
            if chunk is None:
                break
            yield chunk
        self._check_end()

    async def _next(self, latest: float | None, limit: float | None, missed: str) -> ChatGenerationChunk | None:
        if said_end(self._deployment, self._metadata):
            return await self._after_the_end()
        began = now()
        over = began + self._left
        at = over if latest is None else min(over, latest)
        try:
            async with asyncio.timeout_at(at):
                chunk = await anext(self._chunks, None)
        except TimeoutError as error:
            if now() < at:
                raise  # the SDK's own
            if limit is not None and at < over:
                raise TooSlow(missed, limit) from error
            raise TooSlow("no whole answer", self._deployment.timeout) from error
        self._left -= now() - began
        return self._noted(chunk)

    async def _after_the_end(self) -> ChatGenerationChunk | None:
        """What follows the end of an answer. Nothing of it can take the answer back, not even a broken connection."""
        seconds = _FOR_THE_CONNECTION if self._counted else _FOR_USAGE
        try:
            async with asyncio.timeout(min(seconds, max(0.0, self._left))):
                return self._noted(await anext(self._chunks, None))
        except Exception:  # noqa: BLE001 - whatever it is, the answer is there
            return None

    def _noted(self, chunk: ChatGenerationChunk | None) -> ChatGenerationChunk | None:
        if chunk is not None:
            self._metadata.update(chunk.message.response_metadata)
            self._metadata.update(chunk.generation_info or {})
            self._counted = self._counted or getattr(chunk.message, "usage_metadata", None) is not None
        return chunk

    def _check_end(self) -> None:
        if not ended(self._deployment, self._metadata):
            raise StreamCut("The stream ended without saying why.")

    async def aclose(self) -> None:
        """Stop reading; the model's class closes its connection. Safe to call at any time."""
        with suppress(Exception):  # a broken connection has nothing more to tell
            await self._chunks.aclose()


class Caller:
    """Asks deployments for one call: the same messages and arguments, whichever deployment is asked."""

    def __init__(
        self,
        wire: Wire,
        model: Callable[[Deployment], BaseChatModel],
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> None:
        """`model` gives the LangChain model of a deployment for the running loop."""
        self.messages = list(messages)
        self._wire = wire
        self._model = model
        self._stop = stop
        self._given = {key: value for key, value in given.items() if key != "stop"}  # the call's own comes first

    async def whole(self, deployment: Deployment, *, may_refuse: bool) -> ChatResult:
        """The whole answer of a deployment, within its total timeout.

        Args:
            deployment: the one to ask.
            may_refuse: a refusal is an answer like any other, for the caller to read.

        Raises:
            TooSlow: it did not come in time.
            MalformedAnswer: it has nothing to choose from.
            ContentRefused: it is a refusal, and may not be one.
        """
        model, arguments = self._prepared(deployment)
        at = now() + deployment.timeout
        try:
            async with asyncio.timeout_at(at):
                result = await model._agenerate(self.messages, stop=self._stop, **arguments)  # noqa: SLF001
        except TimeoutError as error:
            if now() < at:
                raise
            raise TooSlow("no answer", deployment.timeout) from error
        if not result.generations:
            raise MalformedAnswer("The answer has no content.")
        answer = result.generations[0]
        if not may_refuse and refused(answer.message, answer.generation_info):
            raise ContentRefused(_REFUSED, getattr(answer.message, "usage_metadata", None))
        return result

    async def opened(self, deployment: Deployment, *, may_refuse: bool) -> OpenedStream:
        """A deployment's stream, once its first content has arrived. See `whole` and `OpenedStream.start`."""
        model, arguments = self._prepared(deployment)
        chunks = _streamed(model, self.messages, self._stop, arguments)
        opened = OpenedStream(deployment, chunks, may_refuse=may_refuse)
        try:
            await opened.start()
        except BaseException:
            await opened.aclose()
            raise
        return opened

    def _prepared(self, deployment: Deployment) -> tuple[BaseChatModel, dict[str, Any]]:
        model = self._model(deployment)
        return model, self._wire.arguments(deployment, model, self._given)


async def _streamed(
    model: BaseChatModel, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any]
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The chunks of a model; of one that cannot stream, its whole answer as one chunk, then what describes it."""
    kind = type(model)
    if kind._astream is BaseChatModel._astream and kind._stream is BaseChatModel._stream:  # noqa: SLF001
        result = await model._agenerate(messages, stop=stop, **arguments)  # noqa: SLF001
        for generation in result.generations[:1]:
            chunk = as_chunk(generation)
            told, chunk.message.response_metadata = chunk.message.response_metadata, {}
            yield chunk
            # As streams do, last: what only describes the answer goes with its record.
            yield ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=told))
        return
    # What a model's class calls an iterator is a generator, and has to be closed as one.
    chunks = cast("AsyncGenerator[ChatGenerationChunk, None]", model._astream(messages, stop=stop, **arguments))  # noqa: SLF001
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk


def _says_something(chunk: ChatGenerationChunk) -> bool:
    return bool(chunk.message.content or getattr(chunk.message, "tool_call_chunks", None))
