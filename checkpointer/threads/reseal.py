"""Encrypting the copy of a thread anew: what is encrypted is bound to its thread, see `langgraph.encryption`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.codec import effect_at, write_at
from superstep.checkpointer.langgraph.differences import piece_at, split_kind
from superstep.checkpointer.langgraph.encryption import Where, answer_at, at, moved, opened_text, sealed_text
from superstep.checkpointer.threads.queries import maintenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.errors import Connection

    Place = Callable[[SerializerProtocol, str, Any], SerializerProtocol]

__all__ = ["reseal"]


def _where(thread_id: str, row: Any) -> Where:
    return Where(thread_id, row["ns"], row["checkpoint_id"])


# Per table with encrypted values: the serializer for the place of a row, which is in this thread.
_PLACES: dict[str, Place] = {
    "checkpoint": lambda serde, thread, row: at(serde, "checkpoint", *_where(thread, row)),
    "channel_value": lambda serde, thread, row: piece_at(
        serde, Where(thread, row["ns"]), row["channel"], row["version"], row["base"]
    ),
    "task_write": lambda serde, thread, row: write_at(
        serde, _where(thread, row), row["task_id"], row["idx"], row["task_path"], row["channel"]
    ),
    "task_effect": lambda serde, thread, row: effect_at(serde, _where(thread, row), row["task_id"]),
    "provenance": lambda serde, thread, row: effect_at(serde, _where(thread, row), row["task_id"]),
    "llm_call": lambda serde, thread, row: answer_at(serde, thread, row["request"]),
}


async def reseal(conn: Connection, schema: str, serde: SerializerProtocol, source: str, target: str) -> None:
    """Bind what `target` has, copied from `source`, to `target`. Call it in a transaction, which is to be the copy's.

    Raises:
        ValueNotAuthentic: a value of the source is none of its own.
    """
    for table, place in _PLACES.items():
        values: list[tuple[str | bytes, ...]] = []
        for row in await maintenance.encrypted_values(conn, schema, table, target):
            mark, kind = split_kind(row["kind"])
            here, there = place(serde, source, row), place(serde, target, row)
            kind, value = moved(here, there, (kind, row["value"]))
            values.append((row["at"], mark + kind, value))
        await maintenance.replace(conn, schema, table, values)
    for column in ("metadata", "stats", "call", "error"):
        texts: list[tuple[str | bytes, ...]] = []
        for row in await maintenance.encrypted_texts(conn, schema, column, target):
            key = [part for part in (row["ns"], row["detail"]) if part is not None]
            held = {"sealed": row["text"]} if column == "error" else json.loads(row["text"])
            opened = opened_text(serde, held.get("sealed", ""), column, source, *key)
            held["sealed"] = sealed_text(serde, opened, column, target, *key)
            texts.append((row["at"], held["sealed"] if column == "error" else json.dumps(held, ensure_ascii=False)))
        await maintenance.replace(conn, schema, column, texts)
