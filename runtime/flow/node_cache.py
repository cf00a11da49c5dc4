"""LangGraph's node cache, kept away from results that rest on facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.cache.base import BaseCache

from superstep.checkpointer import is_marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langgraph.cache.base import FullKey, Namespace

__all__ = ["FactlessCache"]


class FactlessCache(BaseCache[Any]):
    """The given cache, except that a result made with reads or staged writes is never put into it.

    LangGraph stores a node's result when the node has finished, before the commit. Served again after a conflict, or in
    another thread, it would stand for facts no task has read and writes no task stages.
    """

    def __init__(self, cache: BaseCache[Any]) -> None:
        super().__init__(serde=cache.serde)
        self._cache = cache

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """See LangGraph."""
        return self._cache.get(keys)

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """See LangGraph."""
        return await self._cache.aget(keys)

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """See LangGraph."""
        if kept := _factless(pairs):
            self._cache.set(kept)

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """See LangGraph."""
        if kept := _factless(pairs):
            await self._cache.aset(kept)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See LangGraph."""
        self._cache.clear(namespaces)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See LangGraph."""
        await self._cache.aclear(namespaces)


def _factless(pairs: Mapping[FullKey, tuple[Any, int | None]]) -> dict[FullKey, tuple[Any, int | None]]:
    return {key: pair for key, pair in pairs.items() if not is_marked(pair[0])}
