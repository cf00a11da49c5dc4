"""Names of LangGraph's that listings need, which do not import LangGraph: it takes a second. A test compares them."""

from __future__ import annotations

from typing import Final

__all__ = ["QUESTIONS"]

QUESTIONS: Final = "__interrupt__"
"""The channel that a task writes its questions to a human to."""
