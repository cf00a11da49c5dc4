"""SQL as named, commented resources: the statements of a `.sql` file, by name. Pure, and like `faults` on the floor.

A statement starts at `-- name: x`; comment lines are dropped, so they cost nothing on the wire. `{schema}` is filled in
with the quoted schema, and `{x}` with the text of statement `x`, which may be a mere part of others; nothing else is
ever put into it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["beside", "quote_identifier", "statements"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_HOLE = re.compile(r"\{(\w+)\}")


def quote_identifier(name: str) -> str:
    """Quote a name for use as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def beside(module: str, *parts: str) -> Callable[[str], Mapping[str, str]]:
    """The statements of the `.sql` file that has a module's name and folder.

    Args:
        module: the module's `__file__`.
        *parts: names of further files of that folder, whose statements may be used as parts.

    Returns:
        A function from a schema's name, unquoted, to the statements by name. Each file is read once.
    """
    home = Path(module)
    files = [home.with_suffix(".sql"), *(home.with_name(name) for name in parts)]

    @lru_cache(maxsize=16)
    def of(schema: str) -> Mapping[str, str]:
        return statements("\n".join(file.read_text(encoding="utf-8") for file in files), schema)

    return of


def statements(text: str, schema: str) -> dict[str, str]:
    """The statements of a file's text. `schema` is unquoted."""
    pieces = _NAME.split(text)
    raw = {name: _strip(body) for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    quoted = quote_identifier(schema)

    def fill(sql: str) -> str:
        return _HOLE.sub(lambda hole: quoted if hole.group(1) == "schema" else fill(raw[hole.group(1)]), sql)

    return {name: fill(sql) for name, sql in raw.items()}


def _strip(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if line and not line.startswith("--"))
