"""Arrays as text, for parameters such as `$1::text::text[]`. Pure.

The driver asks of an array, and of each of its elements, whether that is a collection, by way of Python's abstract base
classes. For the short arrays that come with every checkpoint this costs more than all else it does for a statement.
Bytes go as they are: as text they would be twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["number_array", "text_array"]


def text_array(texts: Collection[str | None]) -> str:
    """The text of an array of texts, some of which may be null."""
    if not texts:
        return "{}"
    if None not in texts:
        joined = '","'.join(cast("Collection[str]", texts))
        if "\\" not in joined and joined.count('"') == 2 * (len(texts) - 1):
            return f'{{"{joined}"}}'  # the short way: no quotes but those between the texts
    return f"{{{','.join(map(_element, texts))}}}"


def number_array(numbers: Collection[int]) -> str:
    """The text of an array of integers."""
    return f"{{{','.join(map(str, numbers))}}}" if numbers else "{}"


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'  # in quotes nothing else has a meaning: no comma, brace or blank, nor the word NULL
