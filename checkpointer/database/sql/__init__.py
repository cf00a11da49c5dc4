"""The statements of `queries.sql`, by name.

A statement starts at `-- name: x`; comment lines are dropped, so they cost nothing on the wire. `{schema}` and the
names of other statements in braces are filled in once per saver; nothing else is ever put into SQL text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

__all__ = ["Queries", "queries", "quote_identifier", "statements"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_HOLE = re.compile(r"\{(\w+)\}")

Queries = dict[str, str]


def quote_identifier(name: str) -> str:
    """Quote a name for use as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@lru_cache(maxsize=16)
def queries(schema: str) -> Queries:
    """All statements for one schema. `put_root`, `put_nested` and `put_outside` are `put` with its commit right."""
    return statements(Path(__file__).with_name("queries.sql").read_text(encoding="utf-8"), schema)


def statements(text: str, schema: str) -> Queries:
    """The statements of a file like `queries.sql`."""
    parts = _NAME.split(text)
    raw = {name: _strip(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    for right in ("root", "nested", "outside"):
        raw[f"put_{right}"] = raw["put"].replace("{own}", raw[f"own_{right}"])
    del raw["put"]
    holes = {**raw, "schema": quote_identifier(schema)}

    def fill(sql: str) -> str:
        return _HOLE.sub(lambda m: holes[m.group(1)], sql)

    return {name: fill(fill(sql)) for name, sql in raw.items()}


def _strip(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if line and not line.startswith("--"))
