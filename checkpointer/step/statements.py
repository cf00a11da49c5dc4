"""What a statement is, by its text: a read, transaction control, a scan that promises no order. Pure.

All of it looks at the tokens the server sees (`tokens`), so comments, literals and quoted names do not mislead it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from superstep.checkpointer.step.tokens import Kind, Token, first_word, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "changes_session",
    "ends_transaction",
    "reads_only",
    "scanned",
    "sets_session",
    "switches_protocol",
    "writes_rows",
]

_READ_WORDS = frozenset({"select", "with", "values", "table", "show", "explain"})
_CONTROL_WORDS = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"}
    | {"set", "reset", "discard"}
)
_SESSION_WORDS = frozenset({"listen", "unlisten", "load", "execute", "deallocate"})
_PROMISING = frozenset(  # words of statements whose rows come in an order that one may rely on
    {"order", "over", "window", "ordinality", "values", "recursive", "union", "intersect", "except", "tablesample"}
    | {"explain", "show", "json_table", "xmltable"}
)
_BEFORE_PARENTHESIS = frozenset(  # what may stand before one and is no function that returns rows
    {"all", "and", "any", "array", "as", "between", "by", "case", "cast", "cube", "distinct", "else", "exists"}
    | {"filter", "from", "having", "ilike", "in", "is", "join", "like", "limit", "materialized", "not", "offset"}
    | {"on", "or", "rollup", "row", "select", "sets", "some", "then", "using", "when", "where"}
    | {"bit", "char", "decimal", "numeric", "time", "timestamp", "timestamptz", "varchar", "varying", "vector"}
    | {"abs", "array_agg", "avg", "bool_and", "bool_or", "ceil", "coalesce", "concat", "count", "date_part"}
    | {"date_trunc", "every", "extract", "floor", "greatest", "json_agg", "jsonb_agg", "least", "length", "lower"}
    | {"max", "md5", "min", "now", "nullif", "round", "string_agg", "substring", "sum", "to_char", "trim", "upper"}
)


def ends_transaction(sql: str) -> bool:
    """Whether the statement is transaction control, which is the barrier's alone."""
    word = first_word(sql)
    return word is None or word in _CONTROL_WORDS


def changes_session(sql: str) -> bool:
    """Whether the statement is about what a session keeps from one transaction to the next, which is nothing here.

    `SET` and `RESET` are transaction control here. What a function does, `set_config` among them, ends with the
    super-step.
    """
    return first_word(sql) in _SESSION_WORDS


@lru_cache(maxsize=1024)
def sets_session(sql: str) -> bool:
    """Whether the statement sets what later ones may depend on: whose rows are seen, where names are looked up."""
    return any(token.text == "set_config" for token in tokens(sql) if token.kind in (Kind.WORD, Kind.QUOTED))


def switches_protocol(sql: str) -> bool:
    """Whether the statement makes client and server speak otherwise: COPY from or to the client.

    The server then waits for data that nobody sends, or sends what nobody takes.
    """
    if first_word(sql) != "copy":
        return False
    return any(token.kind is Kind.WORD and token.text in ("stdin", "stdout") for token in tokens(sql))


def writes_rows(sql: str) -> bool:
    """Whether the statement is one that does nothing but write rows, whatever functions and triggers do beside that."""
    return first_word(sql) in ("insert", "update", "delete", "merge")


def reads_only(sql: str) -> bool:
    """Whether the statement may be sent as a read: its first word is one that reads.

    This keeps transaction control and utility commands out. That a SELECT or WITH does not write (a function, FOR
    UPDATE, a data-modifying CTE) is the database's to refuse, in a read-only subtransaction.
    """
    return first_word(sql) in _READ_WORDS


@lru_cache(maxsize=256)
def scanned(sql: str) -> frozenset[str] | None:
    """The words of a plain scan, names of tables among them; `None` for a statement that may promise an order.

    SQL promises an order for ORDER BY alone, but more has one that people rely on: functions that return rows
    (`unnest`, `jsonb_array_elements`, any of the user's own), VALUES, UNION ALL, WITH ORDINALITY, windows, DISTINCT ON,
    recursion. So nothing is looked for that orders; a statement is a plain scan only if it is made of nothing but
    names, operators and calls of functions that are known to return one value. Erring the other way is safe: a new
    order then counts as a change.

    A word may name a view with an order of its own, which the caller has to look into.
    """
    found = list(tokens(sql))
    if first_word(sql) not in ("select", "table", "with") or not all(_is_plain(found, at) for at in range(len(found))):
        return None
    return frozenset(token.text for token in found if token.kind in (Kind.WORD, Kind.QUOTED))


def _is_plain(found: Sequence[Token], at: int) -> bool:
    token = found[at]
    after = found[at + 1].text if at + 1 < len(found) and found[at + 1].kind is not Kind.LITERAL else ""
    if token.kind is Kind.STRANGE:
        return False
    if token.kind is Kind.QUOTED:
        return after != "("
    if token.kind is not Kind.WORD:
        return True
    if token.text in _PROMISING or (token.text == "distinct" and after == "on"):
        return False
    return after != "(" or (token.text in _BEFORE_PARENTHESIS and (at == 0 or found[at - 1].text != "."))
