"""The one place that joins the libraries: what they need of each other is put in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import checkpointer.calls
from checkpointer.engine import set_embedder
from checkpointer.step import locate
from providers.embeddings.registry import configure_embeddings, configure_embeddings_by_default
from providers.hooks import Hooks, hooks
from providers.process import configure_by_default
from runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from providers.config import Catalog

__all__ = ["join"]


def join() -> None:
    """Tie the process together; safe to call repeatedly.

    Savers get an embedder for `nearest(text=...)`. Calls of models are recorded with, and budgeted by, the super-step
    they are made in. Routes and embedders come from `runtime.toml` of the working directory, unless a command has named
    another file.
    """
    set_embedder(_embed)
    hooks(Hooks(record=checkpointer.calls.record_call, spent=_spent, before_blocking=_refuse_deadlock))
    configure_by_default(_catalog)
    configure_embeddings_by_default(_embeddings)


async def _embed(texts: list[str]) -> list[list[float]]:
    from providers.embeddings import embedder  # the model takes a moment to load, and most runs never need it

    return await embedder("default").embed(texts)


async def _spent(route: str, window: float | None) -> checkpointer.calls.Spent | None:
    return await checkpointer.calls.spent(route=route, window=window)


def _refuse_deadlock() -> None:
    try:
        place = locate()
    except NoActiveStep:
        return  # outside of steps a call needs no loop but its own
    try:
        place.run.engine.refuse_own_loop()
    except NoActiveStep:
        raise NoActiveStep(
            f"Node {place.node!r} called a model with invoke or stream on the event loop that has to serve the "
            f"super-step, so both would wait for ever. Await ainvoke, iterate astream, or make the node a plain "
            f"`def`: LangGraph runs those in threads."
        ) from None


def _catalog() -> Catalog | None:
    from runtime.models import configured
    from runtime.settings import load_settings

    return configured(load_settings())


def _embeddings() -> None:
    from runtime.settings import load_settings

    settings = load_settings()
    configure_embeddings(settings.embeddings, place=settings.place)
