"""Every statement of the checkpointer by name, and those of the first release."""

from __future__ import annotations

import re
from pathlib import Path

import superstep.checkpointer
from superstep.runtime.sqlfile import statements

_HERE = Path(superstep.checkpointer.__file__).parent


def all_statements(schema: str) -> dict[str, str]:
    """Of all rooms, filled in for one schema."""
    found: dict[str, str] = {}
    for file in sorted(_HERE.rglob("*.sql")):
        if file.parent.name != "migrations" and file.name != "parts.sql":
            parts = file.with_name("parts.sql")
            text = file.read_text() + (parts.read_text() if parts.exists() else "")
            found |= statements(text, schema)
    return found


def statements_of_first_release(text: str, schema: str) -> dict[str, str]:
    """Its file held one `put`, into which each of three commit rights was put."""
    name, put = re.search(r"^(-- name: put)\n(.*?)(?=^-- name:)", text, re.MULTILINE | re.DOTALL).groups()  # type: ignore[union-attr]
    each = "".join(
        f"{name}_{right}\n" + put.replace("{own}", f"{{own_{right}}}") for right in ("root", "nested", "outside")
    )
    return statements(text.replace(f"{name}\n{put}", each), schema)
