"""Vectors as a collection stores them: checked before they are sent, so that a refusal names what is wrong. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from superstep.checkpointer.collections.nearest import vector_of
from superstep.runtime.faults import ConfigError, VectorInvalid

if TYPE_CHECKING:
    from superstep.checkpointer.collections.definition import Definition
    from superstep.checkpointer.collections.nearest import Embedding

__all__ = ["dimensions_of", "vector_text"]

_NUMBERS = {"full": "float32", "half": "float16"}


def dimensions_of(embedding: Embedding) -> int:
    """How many a vector has.

    Raises:
        ConfigError: it is none.
    """
    return len(vector_of("a vector", embedding))


def vector_text(definition: Definition, embedding: Embedding | None, of: str = "the embedding") -> str:
    """The text of a vector, in the numbers that the collection stores.

    Args:
        definition: of the collection.
        embedding: see `nearest.Embedding`.
        of: what it is, for the message.

    Raises:
        VectorInvalid: it is missing, of other dimensions, not finite in these numbers, or has no direction.
    """
    what = f"Collection {definition.name!r}: {of}"
    if embedding is None:
        raise VectorInvalid(f"{what} is missing. Give one, or a text and an embedder.")
    try:
        numbers = vector_of(definition.name, embedding)
    except ConfigError as e:
        raise VectorInvalid(f"{what} is no vector of finite numbers.") from e
    if len(numbers) != definition.dimensions:
        raise VectorInvalid(
            f"{what} has {len(numbers)} dimensions, and the collection's have {definition.dimensions}. Use the model "
            f"that embedded the rest."
        )
    import numpy as np  # commands that only look at what is stored do without

    with np.errstate(over="ignore", under="ignore"):
        stored = np.asarray(numbers, dtype=np.float64).astype(_NUMBERS[definition.precision])
        single = stored.astype(np.float32)
        norm = float(np.dot(single.astype(np.float64), single.astype(np.float64)))
    if not np.isfinite(stored).all():
        raise VectorInvalid(f"{what} holds a number beyond what {definition.precision} precision has.")
    if norm == 0 or np.float32(math.sqrt(norm)) == 0:
        raise VectorInvalid(f"{what} is zero (in {definition.precision} precision), so it has no direction.")
    return "[" + ",".join(map(str, single)) + "]"  # the shortest digits that are these very numbers
