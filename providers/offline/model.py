"""The offline model as a LangChain chat model: rules in, messages and streams out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from superstep.providers.offline.request import OfflineReply, OfflineRequest, OfflineRules, ToolCall, parse_request
from superstep.providers.offline.schema import minimal_instance
from superstep.providers.policy.estimate import tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

__all__ = ["OfflineChatModel", "qualified_name"]


class OfflineChatModel(BaseChatModel):
    """Answers from rules, at once, without a network: a pure function of the request.

    Only a reply that says how many `seconds` it takes comes later. Equal requests get equal answers in every process.
    Text that no rule supplied starts with `[offline]`, and every message says in `response_metadata` that no model
    produced it. Structured output, tool calls, streaming word by word and caching work as with any chat model; token
    counts are estimates (four characters a token).

    Attributes:
        route: name of the route it serves.
        rules: what answers; see `OfflineRules`. Cache keys contain its qualified name, so two different rules of one
            name (closures made in a loop) would share cached answers.
    """

    route: str = "default"
    rules: OfflineRules | None = None

    @property
    def _llm_type(self) -> str:
        return "offline"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model": "offline", "route": self.route, "rules": qualified_name(self.rules)}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools. `tool_choice` is `"any"`, `"auto"`, a tool's name, or a vendor's spelling of these."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=tool_choice, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message, seconds = self._answer(messages, stop, kwargs)
        time.sleep(seconds)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message, seconds = self._answer(messages, stop, kwargs)
        await asyncio.sleep(seconds)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        # LangChain reports each chunk to the callbacks itself; reporting here too would show every word twice.
        message, seconds = self._answer(messages, stop, kwargs)
        time.sleep(seconds)
        for chunk in _chunks(message):
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        message, seconds = self._answer(messages, stop, kwargs)
        await asyncio.sleep(seconds)
        for chunk in _chunks(message):
            yield ChatGenerationChunk(message=chunk)

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[AIMessage, float]:
        """The answer, and the seconds it takes."""
        request = parse_request(self.route, messages, tools=kwargs.get("tools"), tool_choice=kwargs.get("tool_choice"))
        ruled = self.rules(request) if self.rules is not None else None
        reply = _generic(request) if ruled is None else _full(ruled, request)
        text = _cut(reply.text, stop)
        calls = [{"name": call.name, "args": dict(call.args)} for call in reply.tool_calls]
        message = AIMessage(
            content=text,
            tool_calls=[
                {**call, "id": _call_id(request, index), "type": "tool_call"} for index, call in enumerate(calls)
            ],
            response_metadata={
                "model_name": "offline",
                "model_provider": "offline",
                "finish_reason": "tool_calls" if calls else "stop",
            },
            usage_metadata=_usage(request, text, calls),
        )
        return message, reply.seconds


def _full(ruled: OfflineReply | str | dict[str, Any] | BaseModel, request: OfflineRequest) -> OfflineReply:
    if isinstance(ruled, OfflineReply):
        return ruled
    if isinstance(ruled, str):
        return OfflineReply(text=ruled)
    value = ruled.model_dump(mode="json") if isinstance(ruled, BaseModel) else ruled
    if request.schema_name is not None:
        return OfflineReply(tool_calls=(ToolCall(request.schema_name, value),))
    return OfflineReply(text=json.dumps(value, ensure_ascii=False))


def _generic(request: OfflineRequest) -> OfflineReply:
    """Answer a request that no rule knows: the smallest thing the caller can parse."""
    if request.tool_choice is not None and request.tools:
        tool = next((each for each in request.tools if each["name"] == request.schema_name), request.tools[0])
        return OfflineReply(tool_calls=(ToolCall(tool["name"], minimal_instance(tool.get("parameters", {}))),))
    summary = " ".join(request.text.split())
    return OfflineReply(text=f"[offline] {summary[:200]}".rstrip())


def _chunks(message: AIMessage) -> Iterator[AIMessageChunk]:
    """Split a message so that adding the parts up gives it again. What is not text comes once, with the last part."""
    for word in re.findall(r"\s*\S+\s*$|\s*\S+|\s+", message.text):
        yield AIMessageChunk(content=word)
    for index, call in enumerate(message.tool_calls):
        args = json.dumps(call["args"], ensure_ascii=False)
        part = tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)
        yield AIMessageChunk(content="", tool_call_chunks=[part])
    yield AIMessageChunk(
        content="",
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )


def _cut(text: str, stop: list[str] | None) -> str:
    ends = [at for mark in stop or () if mark and (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _usage(request: OfflineRequest, text: str, calls: list[dict[str, Any]]) -> UsageMetadata:
    asked = sum(tokens(message.text) for message in request.messages) + tokens(_json(request.tools))
    answered = tokens(text) + tokens(_json(calls) if calls else "")
    return UsageMetadata(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)


def _call_id(request: OfflineRequest, index: int) -> str:
    said = [[message.type, message.content] for message in request.messages]
    body = _json([request.route, said, request.tools, request.tool_choice, index])
    return f"call_{hashlib.sha256(body.encode()).hexdigest()[:24]}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False) if value else ""


def qualified_name(rules: OfflineRules | None) -> str | None:
    """What stands for rules in cache keys."""
    if rules is None:
        return None
    owner = rules if hasattr(rules, "__qualname__") else type(rules)
    # Without the import root, which 0.1.0 did not have: an answer that was paid under the old name is found under it.
    return f"{owner.__module__}.{owner.__qualname__}".removeprefix("superstep.")
