"""What processes write down while they live: one file each, one JSON object a line, whole or not at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Book", "read"]


class Book:
    """A process's own. What is in it outlives the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: str, **details: Any) -> None:
        """Write a line."""
        os.write(self._file, json.dumps({"what": what, **details}).encode() + b"\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a book; nothing if the process died before it began one."""
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)
