"""A set of texts that forgets the oldest."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Recent"]


class Recent:
    """At most so many texts, those that were added last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def add(self, text: str) -> None:
        """Add it, in the place of the oldest if there are too many."""
        self._texts[text] = None
        self._texts.move_to_end(text)
        if len(self._texts) > self._most:
            self._texts.popitem(last=False)

    def discard(self, text: str) -> None:
        """Forget it, if it is there."""
        self._texts.pop(text, None)
