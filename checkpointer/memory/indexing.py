"""What is embedded of an item, and its vectors as statements take them.

The texts are chosen by the fields of the index, as LangGraph's stores do it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.store.base import ensure_embeddings, get_text_at_path, tokenize_path

from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.embeddings import Embeddings

    from superstep.checkpointer.collections.embedder import TextEmbedder

__all__ = ["Index", "Vectors"]


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one item.

    Attributes:
        fields: of which text each is.
        numbers: their numbers.
    """

    fields: list[str]
    numbers: list[list[float]]

    @property
    def texts(self) -> list[str]:
        """Each as the text of an array of PostgreSQL."""
        return ["{" + ",".join(map(repr, each)) + "}" for each in self.numbers]


NONE = Vectors([], [])


class Index:
    """How texts of items are chosen and embedded.

    Args:
        config: LangGraph's, with `embed`, `dims` and `fields`, each of which may be left out; `False`: nothing is.
        embedder: embeds if the config says nothing of it.

    Raises:
        MemoryInvalid: the config is not one.
    """

    def __init__(self, config: Mapping[str, Any] | bool | None, embedder: TextEmbedder) -> None:
        self.is_on = config is not False
        given: Mapping[str, Any] = config if isinstance(config, dict) else {}
        fields = given.get("fields") or ["$"]
        self._fields = [fields] if isinstance(fields, str) else list(fields)
        self._dims = given.get("dims")
        self._embedder = embedder
        self._own: Embeddings | None = None
        if given.get("embed") is not None:
            self._own = ensure_embeddings(given["embed"])
        if not all(isinstance(each, str) for each in self._fields):
            raise MemoryInvalid(f"The fields of an index are paths, as texts; not {self._fields!r}.")

    @property
    def can_embed(self) -> bool:
        """Whether there is anything to embed with."""
        return self.is_on and (self._own is not None or self._embedder.is_set)

    def texts(self, value: Mapping[str, Any], index: Sequence[str] | bool | None) -> dict[str, str]:
        """What of an item is embedded: the text of each field; of one with several texts, by their numbers too."""
        if index is False or not self.is_on:
            return {}
        found: dict[str, str] = {}
        for path in self._fields if index is None or index is True else index:
            texts = get_text_at_path(value, "$" if path == "$" else tokenize_path(path))
            found.update({f"{path}.{n}" if len(texts) > 1 else path: text for n, text in enumerate(texts)})
        return {field: text for field, text in found.items() if text}

    async def vectors(self, items: Sequence[Mapping[str, str]]) -> list[Vectors]:
        """The vectors of items, by what `texts` gave of each. One call of the embedder.

        Raises:
            MemoryInvalid: the embedder gave something else than one vector of finite numbers for each text.
        """
        texts = list(dict.fromkeys(text for item in items for text in item.values()))
        if not texts or not self.can_embed:
            return [NONE for _ in items]
        known = dict(zip(texts, await self._embedded(texts), strict=True))
        # What has no direction is near to nothing, and not found by meaning.
        directed = [{field: known[text] for field, text in item.items() if any(known[text])} for item in items]
        return [Vectors(list(each), list(each.values())) for each in directed]

    async def query(self, text: str) -> list[float]:
        """The vector of what is searched for.

        Raises:
            MemoryInvalid: as for `vectors`.
            ConfigError: no embedder is set.
        """
        if self._own is not None:
            return self._checked([await self._own.aembed_query(text)], 1)[0]
        return (await self._embedded([text]))[0]

    async def _embedded(self, texts: list[str]) -> list[list[float]]:
        given = await (self._own.aembed_documents(texts) if self._own else self._embedder.embed_all(texts))
        return self._checked(given, len(texts))

    def _checked(self, given: Sequence[Sequence[float]], count: int) -> list[list[float]]:
        found = [[float(each) for each in vector] for vector in given]
        if len(found) != count:
            raise MemoryInvalid(f"The embedder gave {len(found)} vectors for {count} texts.")
        for vector in found:
            if not vector or not all(map(math.isfinite, vector)):
                raise MemoryInvalid("The embedder gave a vector that is empty, or has a number that is not finite.")
            if self._dims is not None and len(vector) != self._dims:
                raise MemoryInvalid(f"The embedder gave {len(vector)} dimensions, and the index has {self._dims}.")
        return found
