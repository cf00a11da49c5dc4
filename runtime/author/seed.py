"""Prompts that a flow brings along."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from superstep.prompts import PRODUCTION, PromptStore, read_prompts
from superstep.runtime.faults import PromptConflict

if TYPE_CHECKING:
    from pathlib import Path

    from superstep.checkpointer import TransactionalSaver

__all__ = ["seed_prompts"]


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
    store = PromptStore(saver.transaction, saver.schema)
    served = {each.name for each in await store.prompts() if any(known.label == PRODUCTION for known in each.labels)}
    missing = [draft for draft in read_prompts(paths) if draft.name not in served]
    for added in await store.add(missing):
        # A version that was promoted meanwhile stays.
        with suppress(PromptConflict):
            await store.promote(added.name, added.version, expected=None)
    return [draft.name for draft in missing]
