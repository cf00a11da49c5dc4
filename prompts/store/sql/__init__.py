"""The statements of `queries.sql`, by name, for one schema."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

__all__ = ["queries"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


@lru_cache(maxsize=16)
def queries(schema: str) -> dict[str, str]:
    """All statements. The schema's quoted name is the only thing ever put into their text."""
    parts = _NAME.split(Path(__file__).with_name("queries.sql").read_text(encoding="utf-8"))
    quoted = '"' + schema.replace('"', '""') + '"'
    return {
        name: _COMMENT.sub("", body).strip().replace("{schema}", quoted)
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
