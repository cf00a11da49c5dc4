"""Streams through a cache: a first request gets its chunks as they come, a repeated one the whole answer as one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from superstep.providers.transport.chunks import as_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_core.caches import BaseCache

__all__ = ["cached_stream"]


async def cached_stream(
    cache: BaseCache,
    prompt: str,
    llm_string: str,
    chunks: AsyncGenerator[ChatGenerationChunk, None],
    *,
    output_version: str | None = None,
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The chunks, or the answer that the cache has as one chunk. The answer is stored before its last chunk is given.

    It is stored in the form that LangChain stores those of `ainvoke` in: with `output_version` "v1" as content blocks.

    The given chunks are closed with this generator, also if it is left early; then nothing is stored.
    """
    loop = asyncio.get_running_loop()
    known: asyncio.Future[Any] = loop.create_future()
    answer: asyncio.Future[ChatGeneration] = loop.create_future()
    keeper = loop.create_task(_keep(cache, (prompt, llm_string), known, answer))
    try:
        async with aclosing(chunks):
            await asyncio.wait({keeper, known}, return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():
                keeper.result()  # raises what the lookup did
            for generation in known.result() or ():
                yield as_chunk(generation)
            if known.result():
                return
            whole: ChatGenerationChunk | None = None
            async for chunk in chunks:
                whole = _copy(chunk) if whole is None else whole + chunk
                if isinstance(chunk.message, AIMessageChunk) and chunk.message.chunk_position == "last":
                    answer.set_result(_whole(whole, output_version))
                    await keeper
                yield chunk
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})


async def _keep(
    cache: BaseCache, request: tuple[str, str], known: asyncio.Future[Any], answer: asyncio.Future[ChatGeneration]
) -> None:
    """Ask the cache, then tell it the answer: in one task, which ends with the stream.

    For that is how LangChain does it, and a cache may rely on it: carry its finding along in a context variable, take
    the end of the task for that of the call. The reader of the stream may make other calls between two chunks.
    """
    known.set_result(await cache.alookup(*request))
    await cache.aupdate(*request, [await answer])


def _whole(chunk: ChatGenerationChunk, output_version: str | None) -> ChatGeneration:
    message = message_chunk_to_message(chunk.message)
    if output_version == "v1":
        metadata = {**message.response_metadata, "output_version": "v1"}
        message = message.model_copy(update={"content": message.content_blocks, "response_metadata": metadata})
    return ChatGeneration(message=message)


def _copy(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """A chunk of our own: LangChain changes those that it passes on."""
    return ChatGenerationChunk(message=chunk.message.model_copy(), generation_info=chunk.generation_info)
