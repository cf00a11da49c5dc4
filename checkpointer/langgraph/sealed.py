"""What encrypted columns look like, and what can be read of them without a key. Pure, and without LangGraph."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["HIDDEN", "MATCH", "SEALED", "SEALED_TEXT", "readable_json", "readable_text"]

HIDDEN = "(encrypted)"  # shown instead of a text that cannot be read
SEALED = "sealed"  # in a JSON column: all of it, encrypted
MATCH = "match"  # in metadata: keyed digests of what is not readable
SEALED_TEXT = re.compile(r"encrypted:([^:]+):([A-Za-z0-9+/=]*)")


def readable_text(held: str) -> str:
    """What a column of text says: `HIDDEN` if it is encrypted."""
    return HIDDEN if SEALED_TEXT.fullmatch(held) else held


def readable_json(held: dict[str, Any]) -> dict[str, Any]:
    """What a JSON column says, as much of it as is not encrypted."""
    is_sealed = SEALED_TEXT.fullmatch(str(held.get(SEALED, ""))) is not None
    return {name: held[name] for name in held if name not in (SEALED, MATCH)} if is_sealed else held
