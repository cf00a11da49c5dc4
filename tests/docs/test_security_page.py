"""docs/security.md names every column of the tables, and says the truth about those that lie open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from superstep.checkpointer.step.statements import _CONTROL_WORDS, _SESSION_WORDS, changes_session, ends_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
COLUMNS = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def columns(url: str) -> Iterator[tuple[str, str, str]]:
    with psycopg.connect(url) as connection:
        yield from connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'runtime'"
        )


def test_the_table_names_every_column_and_no_other(database_url: str) -> None:
    there = {(table, column) for table, column, _ in columns(database_url)}
    assert len(there) > 90
    assert {(table, column) for table, column, *_ in COLUMNS} == there
    assert len(COLUMNS) == len(there)


def test_what_can_hold_anything_is_encrypted_or_keyed(database_url: str) -> None:
    """Bytes and JSON of the tables of threads: where content would be."""
    said = {(table, column): encrypted for table, column, _, encrypted in COLUMNS}
    anything = [
        (table, column)
        for table, column, type_ in columns(database_url)
        if type_ in ("bytea", "json", "jsonb") and not table.startswith(("prompt_", "memory", "derived_", "collection"))
    ]
    assert len(anything) == 20
    assert [each for each in anything if "encrypted" not in said[each] and "keyed" not in said[each]] == []


def test_the_words_that_are_refused_are_refused() -> None:
    sql = PAGE.partition("## SQL")[2].partition("## Encryption")[0]
    named = set(re.findall(r"`([A-Z]+)`", sql)) - {"WITH", "DO"}
    assert {"COMMIT", "SET", "LISTEN", "LOAD"} <= named
    assert {word.lower() for word in named} <= _CONTROL_WORDS | _SESSION_WORDS
    assert all(ends_transaction(f"{word} x") or changes_session(f"{word} x") for word in named)
