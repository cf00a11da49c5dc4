"""Prompts that a flow brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompts import PRODUCTION, PromptStore, read_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from checkpointer import TransactionalSaver

__all__ = ["seed_prompts"]


async def seed_prompts(saver: TransactionalSaver, *paths: Path) -> list[str]:
    """Bring in the prompts of files that the database has no version of, and point `production` at them.

    For a flow's `setup`: what somebody has added, promoted or rolled back since is left alone. Idempotent; any number
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
    store = PromptStore(saver.transaction, saver.engine.schema)
    known = {each.name for each in await store.prompts()}
    missing = [draft for draft in read_prompts(paths) if draft.name not in known]
    if missing:
        await store.add(missing, label=PRODUCTION)
    return [draft.name for draft in missing]
