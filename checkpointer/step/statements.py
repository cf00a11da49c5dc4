"""What a statement is, by its text: a read, transaction control, one that promises an order. Pure."""

from __future__ import annotations

import re

__all__ = ["ends_transaction", "is_ordered", "reads_only"]

_COMMENT_OR_LITERAL = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)", re.IGNORECASE)
_READ_WORDS = frozenset({"select", "with", "values", "table", "show", "explain"})
_CONTROL_WORDS = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"}
    | {"set", "reset", "discard"}
)


def is_ordered(sql: str) -> bool:
    """Whether the statement may promise an order of its rows: it has ORDER BY anywhere, be it in a literal.

    Erring this way is safe: a reordering nobody promised then counts as a change.
    """
    return _ORDER_BY.search(sql) is not None


def ends_transaction(sql: str) -> bool:
    """Whether the statement is transaction control, which is the barrier's alone."""
    word = _first_word(sql)
    return word is None or word in _CONTROL_WORDS


def reads_only(sql: str) -> bool:
    """Whether the statement may be sent as a read: its first word is one that reads.

    This keeps transaction control and utility commands out. That a SELECT or WITH does not write (a function, FOR
    UPDATE, a data-modifying CTE) is the database's to refuse, in a read-only subtransaction.
    """
    return _first_word(sql) in _READ_WORDS


def _first_word(sql: str) -> str | None:
    word = _FIRST_WORD.match(_COMMENT_OR_LITERAL.sub(" ", sql))
    return word.group(1).lower() if word else None
