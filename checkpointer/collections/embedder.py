"""What turns texts into vectors for `nearest(text=...)`: set once for the process, or for one saver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Embed", "TextEmbedder", "set_embedder"]

Embed: TypeAlias = Callable[[list[str]], Awaitable[list[list[float]]]]

_AT_ONCE = 256  # texts

_of_process: list[Embed | None] = [None]


def set_embedder(embed: Embed) -> None:
    """Set what embeds texts in this process, for savers that have no embedder of their own."""
    _of_process[0] = embed


class TextEmbedder:
    """The embedder of one saver. Shared by the saver's clones.

    Attributes:
        own: embeds texts for this saver, instead of the process's `set_embedder`.
    """

    def __init__(self) -> None:
        self.own: Embed | None = None

    async def embed(self, text: str) -> list[float]:
        """The embedding of a text.

        Raises:
            ConfigError: no embedder is set.
        """
        return (await self.embed_all([text]))[0]

    async def embed_all(self, texts: Sequence[str]) -> list[list[float]]:
        """The embeddings of texts, asked for some hundred at a time.

        Raises:
            ConfigError: no embedder is set.
        """
        embed = self.own or _of_process[0]
        if embed is None:
            raise ConfigError("nearest(text=...) needs an embedder: import `superstep`, or set saver.embedder.own.")
        vectors: list[list[float]] = []
        for at in range(0, len(texts), _AT_ONCE):
            vectors += await embed(list(texts[at : at + _AT_ONCE]))
        return vectors

    @property
    def is_set(self) -> bool:
        """Whether there is an embedder."""
        return (self.own or _of_process[0]) is not None
