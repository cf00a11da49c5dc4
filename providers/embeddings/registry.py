"""The embedders of this process by name, made when first asked for; what makes them is imported then too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from superstep.providers.catalog.values import Locator
    from superstep.providers.embeddings.embedder import Embedder
    from superstep.providers.embeddings.settings import EmbeddingSettings

__all__ = ["configure_embeddings", "configure_embeddings_by_default", "embedder"]


def _dotted(path: Sequence[str | int]) -> str:
    """The place of a value where no file is known: its keys."""
    return ".".join(map(str, path))


class _EmbedderRegistry:
    """Attributes: see the functions below.

    `made` is by settings and not by name, so that what an embedder knows outlives an equal configuration.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.settings: Mapping[str, EmbeddingSettings] = {}
        self.made: dict[EmbeddingSettings, Embedder] = {}
        self.source: Callable[[], None] | None = None
        self.named = False


_registry = _EmbedderRegistry()


def configure_embeddings(tables: Any, *, place: Locator = _dotted) -> None:
    """Have this process use these embedders from now on. Makes no call and loads no weights.

    Args:
        tables: The tables under `[embeddings]`, by name. "default" is WordLlama where none of that name is given.
        place: Names the place of a value in error messages, given the keys that lead to it.

    Raises:
        ConfigError: Anything is wrong. What was configured before stays.
    """
    from superstep.providers.embeddings.settings import parse_embeddings

    settings = parse_embeddings(tables, place=place)
    with _registry.lock:
        _registry.named, _registry.source = True, None
        _registry.settings = settings
        used = set({"default": _default(), **settings}.values())
        _registry.made = {key: made for key, made in _registry.made.items() if key in used}


def configure_embeddings_by_default(source: Callable[[], None]) -> None:
    """Name a source of settings for processes that call no `configure_embeddings` of their own.

    Args:
        source: Called when the first embedder is wanted; calls `configure_embeddings`. Called again if it failed.
    """
    with _registry.lock:
        if not _registry.named:
            _registry.named, _registry.source = True, source


def embedder(name: str = "default") -> Embedder:
    """Return the embedder of that name; the same object until the configuration changes.

    Its vectors are remembered, see `MemoisedEmbedder`: a super-step that runs again pays for no embedding twice.

    Raises:
        ConfigError: There is no embedder of that name, or the configuration is wrong.
    """
    source = _registry.source
    if source is not None:
        source()
    with _registry.lock:
        known = {"default": _default(), **_registry.settings}
        if name not in known:
            raise _unknown(name, list(known))
        settings = known[name]
        if settings not in _registry.made:
            _registry.made[settings] = _make(settings)
        return _registry.made[settings]


def _default() -> EmbeddingSettings:
    from superstep.providers.embeddings.settings import EmbeddingSettings

    return EmbeddingSettings(name="default", provider="wordllama")


def _unknown(name: str, known: list[str]) -> ConfigError:
    from superstep.providers.catalog.values import did_you_mean

    hint = did_you_mean(name, known)
    return ConfigError(f"There is no embedder {name!r}. {hint} Add [embeddings.{name}] to runtime.toml.")


def _make(settings: EmbeddingSettings) -> Embedder:
    from superstep.providers.embeddings.memo import MemoisedEmbedder

    return MemoisedEmbedder(_computing(settings), batch_size=settings.batch_size)


def _computing(settings: EmbeddingSettings) -> Embedder:
    if settings.provider == "wordllama":
        from superstep.providers.embeddings.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    if settings.provider == "minilm":
        from superstep.providers.embeddings.minilm import MiniLmEmbedder

        return MiniLmEmbedder()
    from superstep.providers.embeddings.remote import RemoteEmbedder

    return RemoteEmbedder(settings)
