"""Whole answers in the form of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

if TYPE_CHECKING:
    from langchain_core.outputs import ChatGeneration

__all__ = ["as_chunk"]


def as_chunk(generation: ChatGeneration) -> ChatGenerationChunk:
    """A whole answer as the only chunk of a stream."""
    message = generation.message
    fields = {key: getattr(message, key, None) for key in ("tool_calls", "invalid_tool_calls", "usage_metadata")}
    chunk = AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        chunk_position="last",
        **{key: value for key, value in fields.items() if value},
    )
    return ChatGenerationChunk(message=chunk, generation_info=generation.generation_info)
