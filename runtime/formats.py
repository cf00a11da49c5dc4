"""What libraries that do not know each other agree on. Like `faults` on the floor: constants, nothing else."""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_ASKED", "RECORD_KEY"]

RECORD_KEY: Final = "routing"
"""Where an answer carries the record of its call, in a message's `response_metadata`. Public: see docs/models.md."""

NOT_ASKED: Final = ("id", "response_metadata", "usage_metadata", "artifact", "tool_call_chunks", "chunk_position")
"""Fields of a LangChain message that no answer depends on: two requests that differ in these alone are the same.

An artifact is what a tool keeps from the model. The others tell one copy of an answer from another: what it cost, how
long it took, the pieces it was streamed in.
"""
