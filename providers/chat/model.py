"""`RoutedChatModel`: a route as a LangChain chat model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence  # noqa: TC003 - see below
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.load import dumps
from langchain_core.messages import AIMessage  # noqa: TC002 - see below
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool  # noqa: TC002 - see below
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from superstep.providers.chat.call import ChatRequest
from superstep.providers.chat.stoppable import chunks_unless_stopped, unless_stopped
from superstep.providers.chat.stream_replay import cached_stream
from superstep.providers.offline import qualified_name
from superstep.providers.policy.estimate import tokens
from superstep.providers.routing.budgets import Reservation, held_reservations
from superstep.providers.transport import sync_bridge
from superstep.providers.transport.structured import read_value
from superstep.providers.transport.wire import SCHEMA
from superstep.runtime.formats import NOT_ASKED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
    from langchain_core.runnables import RunnableConfig

    from superstep.providers.chat.service import Service
    from superstep.providers.chat.stoppable import StopsCalls

__all__ = ["RoutedChatModel"]

# LangChain looks the type hints of `bind_tools` and `with_structured_output` up, which needs their names at run time.


@dataclass(slots=True)
class _CallContext:
    """What LangChain's path from the public method to `_agenerate` or `_astream` does not carry.

    Attributes:
        prompt: `NAME@VERSION` of the prompt that the input was made from.
        tags: tags of the call.
        streamed: the caller iterates `astream` or `stream` itself, where LangChain asks no cache.
        cached: LangChain asks its cache, and tells it the answer.
    """

    prompt: str | None = None
    tags: frozenset[str] = frozenset()
    streamed: bool = False
    cached: bool = False


_METHODS = (None, "function_calling", "json_schema")
_FRAMEWORK_TAGS = ("seq:", "map:", "branch:", "graph:", "langsmith:")

_call_context: ContextVar[_CallContext] = ContextVar("superstep_call_context", default=_CallContext())  # noqa: B039 - never changed


class RoutedChatModel(BaseChatModel):
    """Answers with whichever deployment of its route the policy picks.

    Everything a LangChain chat model does works: tools, structured output, streaming, callbacks, synchronous calls.
    Which deployment answered, what was tried before, what it took and cost is in the answer's
    `response_metadata["routing"]`, see `providers.records.call_record.CallRecord`.

    Re-run contract: inside a super-step of a `TransactionalSaver` the answer is remembered, and a node that runs again
    gets it again instead of paying for another one, also when it iterates `astream` itself.

    Attributes:
        route: name of the route.
        parameters: arguments of every call: temperature, max_tokens, …
        rules: what answers where the route is served offline.
        service: what all routed models of the process share.
    """

    route: str = "default"
    parameters: dict[str, Any] = Field(default_factory=dict)
    rules: Any = Field(default=None, exclude=True, repr=False)
    service: Any = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "superstep-routed"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        # Which deployments a route has is left out on purpose: an answer that is paid for stays one after a change.
        return {"route": self.route, "parameters": self.parameters, "rules": qualified_name(self.rules)}

    # -- asking --------------------------------------------------------------------------------------------------

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """The answer to an input.

        Raises:
            ProviderExhausted: no deployment of the route, nor of its fallbacks, answered.
            ProviderRejected: a provider says that the request itself is wrong.
            BudgetExceeded: a budget does not allow the call.
        """
        with _calling(_context(input, config)):
            return await super().ainvoke(input, config, stop=stop, **kwargs)

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """`ainvoke` for callers that cannot await; blocks the calling thread."""
        with _calling(_context(input, config)):
            return super().invoke(input, config, stop=stop, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """The answer to an input, chunk by chunk. Raises what `ainvoke` does; see also `Service.stream`."""
        context = _context(input, config, streamed=True)
        chunks = super().astream(input, config, stop=stop, **kwargs)
        reservations: list[Reservation] = []
        try:
            while True:
                # Set anew for each chunk: a generator runs with the context variables of the caller of `anext`.
                with _calling(context, reservations):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                for reservation in reservations:
                    reservation.pause()
                yield chunk
                for reservation in reservations:
                    reservation.resume()
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]  # an asynchronous generator, whatever its annotation
            for reservation in reservations:
                reservation.release()

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """`astream` for callers that cannot await."""
        context = _context(input, config, streamed=True)
        chunks = super().stream(input, config, stop=stop, **kwargs)
        reservations: list[Reservation] = []
        try:
            while True:
                with _calling(context, reservations):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                for reservation in reservations:
                    reservation.pause()
                yield chunk
                for reservation in reservations:
                    reservation.resume()
        finally:
            chunks.close()  # type: ignore[attr-defined]  # a generator, whatever its annotation
            for reservation in reservations:
                reservation.release()

    async def agenerate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """See LangChain. `ainvoke` goes through it, and so does every call that LangChain asks a cache about."""
        with _calling(replace(_call_context.get(), cached=True), held_reservations.get()):
            return await super().agenerate(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """`agenerate` for callers that cannot await; blocks the calling thread."""
        with _calling(replace(_call_context.get(), cached=True), held_reservations.get()):
            return super().generate(*args, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools. `tool_choice` is `"any"`, `"auto"`, a tool's name, or a vendor's spelling of these.

        Tools travel in one neutral form and are translated for whichever deployment is asked.
        """
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[_neutral(tool) for tool in tools], **choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Have the answer fill a schema.

        Args:
            schema: a pydantic class, a TypedDict, or a JSON schema with a title.
            include_raw: return `{"raw", "parsed", "parsing_error"}` instead of the value, and never raise for an answer
                that does not fit.
            method: "function_calling" or "json_schema"; by default what suits the deployment that answers.
            strict: have the provider enforce the schema, where it can.
            **kwargs: further arguments of the call.

        Returns:
            A runnable that returns an instance of a pydantic class, and a dict for any other schema. It raises
            LangChain's `OutputParserException` for an answer that does not fit.
        """
        if method not in _METHODS:
            raise ValueError(f"There is no method {method!r}. Use 'function_calling', 'json_schema', or none.")
        tool = convert_to_openai_tool(schema, strict=strict)
        name = tool["function"]["name"]
        wanted = {"tool": tool, "method": method, "strict": strict}
        told = {"kwargs": {"method": method}, "schema": tool}  # for tracing
        asking = self.bind(**{SCHEMA: wanted}, ls_structured_output_format=told, **kwargs)
        read = RunnableLambda(lambda message: read_value(message, name, schema), name=f"read {name}")
        if not include_raw:
            return asking | read
        parsed = RunnablePassthrough.assign(
            parsed=RunnableLambda(lambda both: both["raw"]) | read, parsing_error=lambda _: None
        )
        unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
        return {"raw": asking} | parsed.with_fallbacks([unparsed], exception_key="parsing_error")

    def get_num_tokens(self, text: str) -> int:
        """Estimate of a text's tokens: whichever deployment answers may count others."""
        return tokens(text)

    # -- LangChain's side ----------------------------------------------------------------------------------------

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        service: Service = self.service
        work = service.answer(self._request(messages, stop, kwargs))
        cache = self._stopping
        return await (work if cache is None else unless_stopped(cache, work))

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return sync_bridge.wait_for(self._agenerate(messages, stop, **kwargs))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        service: Service = self.service
        chunks = service.stream(self._request(messages, stop, kwargs))
        cache = self._memo if _call_context.get().streamed else None
        if cache is not None:
            # As LangChain asks it for `ainvoke`, so that both are the same request.
            request = dumps([message.model_copy(update={"id": None}) for message in messages])
            model = self._get_llm_string(stop, **kwargs)
            chunks = cached_stream(cache, request, model, chunks, output_version=self.output_version)
        elif (stopping := self._stopping) is not None:
            chunks = chunks_unless_stopped(stopping, chunks)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield from sync_bridge.iterate(self._astream(messages, stop, **kwargs))

    @property
    def _memo(self) -> BaseCache | None:
        """The cache of this model's calls, if it keeps records with answers."""
        cache = self.cache if isinstance(self.cache, BaseCache) else None if self.cache is False else get_llm_cache()
        return cache if getattr(cache, "memoises_streams", False) else None

    @property
    def _stopping(self) -> StopsCalls | None:
        """The cache of this model's calls, if it knows when they are of no use any more."""
        cache = self._memo
        return cast("StopsCalls", cache) if hasattr(cache, "in_flight") else None

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> ChatRequest:
        context = _call_context.get()
        arguments = {**self.parameters, **kwargs}
        arguments.pop("stream", None)
        stop = arguments.pop("stop", None) if stop is None else stop
        body = f"{self.route}\0{_input_of(messages)}\0{sorted(arguments.items())}\0{stop}"
        return ChatRequest(
            route=self.route,
            messages=messages,
            stop=stop,
            arguments=arguments,
            rules=self.rules,
            tags=context.tags,
            prompt=context.prompt,
            kept=(context.streamed or context.cached) and self._memo is not None,
            digest=hashlib.blake2b(body.encode(), digest_size=16).hexdigest(),
        )


def _neutral(tool: Any) -> dict[str, Any]:
    """A tool in OpenAI's JSON form; one that a provider has built in (a dict with a type of its own) as it is."""
    if isinstance(tool, dict) and tool.get("type", "function") != "function":
        return tool
    return convert_to_openai_tool(tool)


def _input_of(messages: Sequence[BaseMessage]) -> str:
    """Everything in the messages that an answer can depend on."""
    return repr([message.model_dump(exclude=set(NOT_ASKED)) for message in messages])


def _context(input: Any, config: RunnableConfig | None, *, streamed: bool = False) -> _CallContext:  # noqa: A002
    tags = ensure_config(config).get("tags") or ()
    return _CallContext(
        prompt=getattr(input, "prompt", None),
        # LangChain and LangGraph tag by themselves what part of what a call is.
        tags=frozenset(tag for tag in tags if not tag.startswith(_FRAMEWORK_TAGS)),
        streamed=streamed,
    )


@contextmanager
def _calling(context: _CallContext, reservations: list[Reservation] | None = None) -> Iterator[None]:
    """Make a call in this context. Its reservations are collected in a list that is given, else released at the end."""
    collected = [] if reservations is None else reservations
    tokens = _call_context.set(context), held_reservations.set(collected)
    try:
        yield
    finally:
        _call_context.reset(tokens[0])
        held_reservations.reset(tokens[1])
        if reservations is None:
            for reservation in collected:
                reservation.release()
