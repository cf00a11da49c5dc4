"""The collections that this process knows of, so that a search need not ask which one a name means.

A name means a registered collection, before a table of the user's. What is known cannot mislead:

*A collection that was dropped*, or dropped and made anew, has a table of a number that is never given again. Its search
is rejected, and the name is looked up once more.

*A table of the user's* keeps its name for some seconds. A collection cannot be made under the name of a table that a
search would find, so there is none to be missed, unless the two users see different tables.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer.collections.definition import Definition

__all__ = ["KnownCollections"]

_SECONDS = 30.0


class KnownCollections:
    """Shared by a saver and its clones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[str, Definition] = {}
        self._tables: dict[str, float] = {}

    def get(self, name: str) -> Definition | None:
        """The collection of that name, if it is known."""
        return self._found.get(name)

    def is_table(self, name: str) -> bool:
        """Whether a search was told lately that the name is a table of the user's."""
        if "." in name:
            return True  # of a schema; no collection is called that
        until = self._tables.get(name)
        return until is not None and self._clock() < until

    def put(self, definition: Definition) -> None:
        """It was looked up, or made."""
        self._found[definition.name] = definition
        self._tables.pop(definition.name, None)

    def put_table(self, name: str) -> None:
        """There is no collection of that name, but a table."""
        self._tables[name] = self._clock() + _SECONDS

    def forget(self, name: str) -> None:
        """It is not what it was thought to be."""
        self._found.pop(name, None)
        self._tables.pop(name, None)
