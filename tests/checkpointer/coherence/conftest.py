"""Threads of the bank, and what is kept of their super-steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.bank import Bank


async def records(bank: Bank, thread_id: str | None = None) -> list[dict[str, Any]]:
    """The records of committed super-steps in the order of their snapshots."""
    rows = await bank.do(
        "SELECT stats::text AS stats, created_at FROM runtime.checkpoint "
        "WHERE stats IS NOT NULL AND ($1::text IS NULL OR thread_id = $1) ORDER BY created_at",
        thread_id,
    )
    return [{**json.loads(row["stats"]), "at": row["created_at"]} for row in rows]
