"""Models by route and embedders by name, for graph authors."""

from __future__ import annotations

from superstep.providers import chat_model, embedder

__all__ = ["chat_model", "embedder"]
