"""Prompts and tables that a flow brings along."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from superstep.runtime.faults import PromptConflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from superstep.checkpointer import TransactionalSaver

__all__ = ["seed_prompts", "seed_tables"]


async def seed_prompts(saver: TransactionalSaver, *paths: Path) -> list[str]:
    """Bring in the prompts of files that nothing is in production for, and point `production` at them.

    For a flow's `setup`: what was added, promoted or rolled back since is left alone. Idempotent; any number
    of processes may call it at once.

    Args:
        saver: on the database.
        *paths: folders and files, as for `runtime prompts add`.

    Returns:
        The names of those that were brought in.

    Raises:
        PromptInvalid: A file is wrong.
        SchemaMissing: The tables are not there.
    """
    from superstep.prompts import PRODUCTION, PromptStore, read_prompts  # flows that only seed tables have none

    store = PromptStore(saver.transaction, saver.schema)
    served = {each.name for each in await store.prompts() if any(known.label == PRODUCTION for known in each.labels)}
    missing = [draft for draft in read_prompts(paths) if draft.name not in served]
    for added in await store.add(missing):
        # A version that was promoted meanwhile stays.
        with suppress(PromptConflict):
            await store.promote(added.name, added.version, expected=None)
    return [draft.name for draft in missing]


async def seed_tables(saver: TransactionalSaver, table: str, create: Callable[[], Awaitable[object]]) -> None:
    """Have tables with example data made, unless they exist.

    For a flow's `setup`. Idempotent; any number of processes may call it at once, and one of them does the work. No
    migration tool: what is there is left alone.

    Args:
        saver: on the database.
        table: one of them, with its schema: if it is there, all are.
        create: makes them all in one transaction.

    Raises:
        Exception: What `create` raised, and the table is not there.
    """
    if await _is_there(saver, table):
        return
    try:
        await create()
    except Exception:
        # Two that create the same schema meet at its name: the second waits for the first, then fails, and by then
        # everything is there. An advisory lock would not be simpler: the transaction that waited for it has an old
        # snapshot and an old catalogue cache, and has to start over just the same.
        if not await _is_there(saver, table):
            raise


async def _is_there(saver: TransactionalSaver, table: str) -> bool:
    async with saver.transaction() as tx:
        return await tx.fetchval("SELECT to_regclass($1)", table) is not None
