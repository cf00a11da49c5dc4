"""What every embedder promises about its vectors. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["blank", "unit"]


def blank(dimensions: int) -> list[float]:
    """The vector of a text with nothing in it: (1, 0, 0, …). A cosine distance to a zero vector is undefined."""
    return [1.0] + [0.0] * (dimensions - 1)


def unit(vector: Sequence[float]) -> list[float]:
    """The vector at length 1. It must not be zero."""
    length = math.sqrt(math.fsum(x * x for x in vector))
    return [x / length for x in vector]
