"""The one place that joins the libraries: what they need of each other is put in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer import record_call, refuse_blocking, set_embedder, spent
from superstep.providers.chat.registry import configure_by_default
from superstep.providers.embeddings.registry import configure_embeddings, configure_embeddings_by_default
from superstep.providers.records.ports import Hooks, hooks

if TYPE_CHECKING:
    from superstep.checkpointer import Spent
    from superstep.providers.catalog.model import Catalog

__all__ = ["join"]


def join() -> None:
    """Tie the process together; safe to call repeatedly.

    Savers get an embedder for `nearest(text=...)`. Calls of models are recorded with, and budgeted by, the super-step
    they are made in. Routes and embedders come from `runtime.toml` of the working directory, unless a command has named
    another file.
    """
    set_embedder(_embed)
    hooks(Hooks(record=record_call, spent=_spent, before_blocking=refuse_blocking))
    configure_by_default(_catalog)
    configure_embeddings_by_default(_embeddings)


async def _embed(texts: list[str]) -> list[list[float]]:
    from superstep.providers.embeddings import embedder  # the model takes a moment to load, and most runs never need it

    return await embedder("default").embed(texts)


async def _spent(route: str, window: float | None) -> Spent | None:
    return await spent(route=route, window=window)


def _catalog() -> Catalog | None:
    from superstep.runtime.settings.models import configured
    from superstep.runtime.settings.settings import load_settings

    return configured(load_settings())


def _embeddings() -> None:
    from superstep.runtime.settings.settings import load_settings

    settings = load_settings()
    configure_embeddings(settings.embeddings, place=settings.place)
