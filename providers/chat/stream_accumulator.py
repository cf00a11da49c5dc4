"""The end of a stream: content passes at once, what only describes it waits for the record that goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

__all__ = ["StreamAccumulator"]


class StreamAccumulator:
    """Lets content pass at once and keeps what only describes it, so that the record can go into the last chunk.

    Attributes:
        text: what was said so far.
        calls: arguments of tool calls so far.
        only_text: whether nothing but text was said.
    """

    def __init__(self) -> None:
        self.text = ""
        self.calls = ""
        self.only_text = True
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
            self.only_text = self.only_text and not message.tool_call_chunks and not _beyond_text(message)
            self.calls += "".join(each["args"] or "" for each in message.tool_call_chunks)
            message.chunk_position = None
        self.text += message.text
        if self._held is not None:
            chunk = self._held + chunk
            self._held = None
        if message.content or getattr(message, "tool_call_chunks", None):
            return chunk
        self._held = chunk
        return None

    def last(self, metadata: dict[str, Any], usage: UsageMetadata | None) -> ChatGenerationChunk:
        """What was held back, as the last chunk of the answer, with the tokens of all of it."""
        held = self._held or ChatGenerationChunk(message=AIMessageChunk(content=""))
        held.message.response_metadata = metadata
        held.generation_info = None
        if isinstance(held.message, AIMessageChunk):
            held.message.chunk_position = "last"
            held.message.usage_metadata = usage
        return held


def _beyond_text(message: AIMessageChunk) -> bool:
    """Whether the chunk says anything that is no text: reasoning, images, a part of a tool's input."""
    if isinstance(message.content, str):
        return False
    return any(not isinstance(block, str) and block.get("type") != "text" for block in message.content)
