"""The statement behind `Step.nearest`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import ConfigError
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_nearest", "nearest_statement"]


def check_nearest(collection: str, *, text: str | None, embedding: Sequence[float] | None, k: int) -> None:
    """Raise `ConfigError` unless these say one thing to look for, and how many rows."""
    if k < 1:
        raise ConfigError(f"nearest({collection!r}): k must be at least 1, not {k}.")
    if (text is None) == (embedding is None):
        raise ConfigError(f"nearest({collection!r}): give exactly one of text and embedding.")


def nearest_statement(
    collection: str, vector: Sequence[float], *, k: int, where: str | None, args: Sequence[Any]
) -> tuple[str, list[Any]]:
    """SQL and arguments for the `k` rows of a table nearest to a vector, by cosine distance, ties by id.

    Args:
        collection: a table, optionally `schema.table`, with columns id, content, metadata and embedding.
        vector: of the column's dimensions.
        k: how many rows at most.
        where: an SQL condition with `$1`, `$2`, … for `args`.
        args: values for `where`.
    """
    table = ".".join(quote_identifier(part) for part in collection.split("."))
    at = len(args) + 1
    sql = (
        f"SELECT id, content, metadata, embedding <=> ${at}::text::vector AS distance FROM {table}"  # noqa: S608
        f"{f' WHERE ({where})' if where else ''} ORDER BY embedding <=> ${at}::text::vector, id LIMIT ${at + 1}"
    )
    return sql, [*args, "[" + ",".join(repr(float(x)) for x in vector) + "]", k]
