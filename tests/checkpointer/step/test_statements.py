"""Statements are classified by their text alone."""

from __future__ import annotations

import pytest

from superstep.checkpointer.step.statements import ends_transaction, is_ordered, reads_only


@pytest.mark.parametrize(
    ("sql", "read", "control"),
    [
        ("SELECT 1", True, False),
        ("  ( select 1 ) union select 2", True, False),
        ("/* UPDATE */ -- DELETE\n WITH x AS (SELECT 1) SELECT * FROM x", True, False),
        ("VALUES (1)", True, False),
        ("TABLE account", True, False),
        ("UPDATE account SET x = 'select'", False, False),
        ("COMMIT", False, True),
        ("-- hi\nrollback", False, True),
        ("SET search_path = x", False, True),
        ("SELECTED", False, False),
        ("", False, True),
        ("-- nothing", False, True),
        ("; COMMIT", False, True),
    ],
)
def test_statements_are_told_apart_by_their_first_word(sql: str, read: bool, control: bool) -> None:
    assert (reads_only(sql), ends_transaction(sql)) == (read, control)


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT 1 ORDER BY 1", True),
        ("SELECT 1 order\n by 1", True),
        ("SELECT 'it''s' FROM t ORDER BY 'x'", True),
        ("SELECT border FROM by_t", False),
    ],
)
def test_order_by_is_found(sql: str, ordered: bool) -> None:
    assert is_ordered(sql) is ordered
