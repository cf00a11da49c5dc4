"""The one place that joins the libraries: what the checkpointer needs of the providers is put in here."""

from __future__ import annotations

from checkpointer.engine import set_embedder

__all__ = ["join"]


def join() -> None:
    """Give every saver of the process an embedder for `nearest(text=...)`, loaded when first used."""
    set_embedder(_embed)


async def _embed(texts: list[str]) -> list[list[float]]:
    from providers.embeddings import embedder  # the model takes a moment to load, and most runs never need it

    return await embedder("default").embed(texts)
