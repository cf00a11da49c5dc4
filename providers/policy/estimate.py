"""How many tokens a text has, before a provider has counted them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["tokens", "tokens_of"]

CHARACTERS = 4  # a token, about, in English; the offline model counts by the same rule


def tokens(text: str) -> int:
    """Estimate of the tokens in a text: four characters each, rounded up. Empty text has none."""
    return -(-len(text) // CHARACTERS)


def tokens_of(texts: Iterable[str]) -> int:
    """Estimate for several texts, each rounded up by itself: the sum of `tokens`."""
    return sum(map(tokens, texts))
