"""Streams that are remembered: the same chunks to whoever asks first, the whole answer to whoever asks again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from langchain_core.caches import BaseCache

__all__ = ["as_chunk", "remembered"]


async def remembered(
    cache: BaseCache, prompt: str, llm_string: str, chunks: AsyncGenerator[ChatGenerationChunk, None]
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The chunks, or the answer that the cache has as one chunk. The answer is stored before its last chunk is given.

    The cache is asked and told in one context of its own: it may carry its finding from one to the other in a context
    variable, and between two chunks the caller may make other calls.
    """
    own = copy_context()

    async def there(work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.get_running_loop().create_task(work, context=own)

    async with aclosing(chunks):
        known = await there(cache.alookup(prompt, llm_string))
        if known:
            for generation in known:
                yield as_chunk(generation)
            return
        whole: ChatGenerationChunk | None = None
        async for chunk in chunks:
            whole = _copy(chunk) if whole is None else whole + chunk
            if isinstance(chunk.message, AIMessageChunk) and chunk.message.chunk_position == "last":
                answer = ChatGeneration(message=message_chunk_to_message(whole.message))
                await there(cache.aupdate(prompt, llm_string, [answer]))
            yield chunk


def _copy(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """A chunk of our own: LangChain changes those that it passes on."""
    return ChatGenerationChunk(message=chunk.message.model_copy(), generation_info=chunk.generation_info)


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
