"""OpenAI's protocol as those servers speak it who only imitate it: an answer is not lost over its count of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from superstep.providers.policy.usage import count

if TYPE_CHECKING:
    import openai
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

__all__ = ["LenientChatOpenAI"]

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")


class LenientChatOpenAI(ChatOpenAI):
    """LangChain's class, which computes with what a server says of tokens before anybody can look at it."""

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        usage = response.get("usage") if isinstance(response, dict) else getattr(response, "usage", None)
        plain = usage.model_dump(warnings=False) if isinstance(usage, BaseModel) else usage
        if plain is not None and not _computes(plain):
            if isinstance(response, dict):
                response = {**response, "usage": _computable(plain)}
            else:
                response.__dict__["usage"] = _computable(plain)
        return super()._create_chat_result(response, generation_info)

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        if chunk.get("usage") is not None and not _computes(chunk["usage"]):
            chunk = {**chunk, "usage": _computable(chunk["usage"])}
        return super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)


def _computes(usage: Any) -> bool:
    if not isinstance(usage, dict):
        return False
    details = [usage.get(name) or {} for name in _DETAILS]
    counts = [usage.get(name) for name in _COUNTS]
    counts += [each for one in details if isinstance(one, dict) for each in one.values()]
    return all(isinstance(one, dict) for one in details) and all(each is None or type(each) is int for each in counts)


def _computable(usage: Any) -> dict[str, Any] | None:
    """What a server says of tokens, without what is no number."""
    if not isinstance(usage, dict):
        return None
    found = {name: usage[name] for name in _COUNTS if count(usage.get(name)) is not None}
    for name in _DETAILS:
        details = usage.get(name)
        if isinstance(details, dict):
            found[name] = {key: value for key, value in details.items() if count(value) is not None}
    return found or None
