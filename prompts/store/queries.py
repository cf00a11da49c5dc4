"""A typed function for each statement of `queries.sql`; `schema` is unquoted.

Values become arguments, and rows become values, here and nowhere else: no caller knows an order of columns.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.prompts.store.rows import Label, PromptSummary, Target
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from superstep.prompts.files.drafts import Draft
    from superstep.prompts.store.rows import Move
    from superstep.prompts.store.transactions import Connection

__all__ = [
    "insert_version",
    "known",
    "labels",
    "last_move",
    "lock_label",
    "log_move",
    "prompts",
    "replace_notes",
    "same_content",
    "sql",
    "versions",
    "write_label",
]


# The texts of the statements, by name, for a schema's name, unquoted.
sql = beside(__file__)


# -- reading


async def prompts(conn: Connection, schema: str) -> list[PromptSummary]:
    """All prompts by name, each described by its latest version, without labels."""
    return [PromptSummary(**dict(row)) for row in await conn.fetch(sql(schema)["prompts"])]


async def labels(conn: Connection, schema: str, name: str | None = None) -> list[tuple[str, Label]]:
    """Labels with the names of their prompts: of one prompt, or of all."""
    rows = await conn.fetch(sql(schema)["labels"], name)
    return [(row["name"], Label(row["label"], _target(row), row["moved_at"])) for row in rows]


async def versions(conn: Connection, schema: str, name: str, version: int | None = None) -> Sequence[Mapping[str, Any]]:
    """Rows for `Version.of_row`: of one version, or of all of them in order; none if there is none."""
    return await conn.fetch(sql(schema)["versions"], name, version)


async def known(conn: Connection, schema: str, name: str) -> dict[str, Any]:
    """What there is, for `not_found`: versions and labels of the prompt, names of all prompts."""
    return dict(await conn.fetchrow(sql(schema)["known"], name))


async def same_content(conn: Connection, schema: str, draft: Draft) -> tuple[int, bool] | None:
    """The version that has the draft's content, and whether its golden cases and description are the draft's."""
    row = await conn.fetchrow(sql(schema)["same_content"], draft.name, draft.content.digest, *_notes(draft))
    return None if row is None else (row["version"], row["same"])


async def lock_label(conn: Connection, schema: str, name: str, label: str) -> Target | None:
    """What a label points at; no other transaction moves it until this one ends. `None`: there is no such label."""
    row = await conn.fetchrow(sql(schema)["lock_label"], name, label)
    return None if row is None else _target(row)


async def last_move(conn: Connection, schema: str, name: str, label: str) -> tuple[int, Target] | None:
    """The latest move of a label that was not taken back: its number, and what the label pointed at before.

    `None` if there is none, or if it made the label.
    """
    row = await conn.fetchrow(sql(schema)["last_move"], name, label)
    if row is None or row["from_version"] is None:
        return None
    return row["id"], Target(row["from_version"], row["from_weight"])


# -- writing


async def insert_version(conn: Connection, schema: str, draft: Draft) -> int:
    """Make the draft the next version of its prompt; its number.

    Raises:
        Exception: the driver's, with SQLSTATE 23505, if another transaction took the number.
    """
    content = draft.content
    row = (draft.name, content.digest, content.text, *_notes(draft))
    version: int = await conn.fetchval(sql(schema)["insert_version"], *row)
    return version


async def replace_notes(conn: Connection, schema: str, version: int, draft: Draft) -> None:
    """Give a version of the draft's prompt the draft's golden cases and description."""
    await conn.execute(sql(schema)["replace_notes"], draft.name, version, *_notes(draft))


async def write_label(conn: Connection, schema: str, move: Move) -> None:
    """Point a label at the end of a move. One that is there already must have been locked.

    Raises:
        Exception: the driver's, with SQLSTATE 23505, if another transaction made the label.
    """
    statement = "insert_label" if move.before is None else "update_label"
    await conn.execute(sql(schema)[statement], move.name, move.label, move.after.version, move.after.weight)


async def log_move(conn: Connection, schema: str, move: Move, undoes: int | None) -> None:
    """Keep a move for rollbacks; `undoes` is the number of the move that it takes back."""
    before = (None, None) if move.before is None else (move.before.version, move.before.weight)
    after = (move.after.version, move.after.weight)
    await conn.execute(sql(schema)["log_move"], move.name, move.label, *before, *after, undoes)


def _target(row: Mapping[str, Any]) -> Target:
    return Target(row["version"], row["weight"])


def _notes(draft: Draft) -> tuple[str, str]:
    """What is kept beside the content: golden cases as JSON text, description."""
    return json.dumps([asdict(each) for each in draft.cases], ensure_ascii=False), draft.description
