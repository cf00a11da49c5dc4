"""The one place that joins the libraries: what they need of each other is put in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.calls import records
from superstep.checkpointer.database.database import set_embedder
from superstep.checkpointer.step.step import locate
from superstep.providers.chat.registry import configure_by_default
from superstep.providers.embeddings.registry import configure_embeddings, configure_embeddings_by_default
from superstep.providers.records.ports import Hooks, hooks
from superstep.runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Catalog

__all__ = ["join"]


def join() -> None:
    """Tie the process together; safe to call repeatedly.

    Savers get an embedder for `nearest(text=...)`. Calls of models are recorded with, and budgeted by, the super-step
    they are made in. Routes and embedders come from `runtime.toml` of the working directory, unless a command has named
    another file.
    """
    set_embedder(_embed)
    hooks(Hooks(record=records.record_call, spent=_spent, before_blocking=_refuse_deadlock))
    configure_by_default(_catalog)
    configure_embeddings_by_default(_embeddings)


async def _embed(texts: list[str]) -> list[list[float]]:
    from superstep.providers.embeddings import embedder  # the model takes a moment to load, and most runs never need it

    return await embedder("default").embed(texts)


async def _spent(route: str, window: float | None) -> records.Spent | None:
    return await records.spent(route=route, window=window)


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
    from superstep.runtime.settings.models import configured
    from superstep.runtime.settings.settings import load_settings

    return configured(load_settings())


def _embeddings() -> None:
    from superstep.runtime.settings.settings import load_settings

    settings = load_settings()
    configure_embeddings(settings.embeddings, place=settings.place)
