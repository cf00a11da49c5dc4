"""Reads of the shared files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep import Step

__all__ = ["files_at", "head", "rest_on"]


async def head(step: Step, *, validate: bool = True) -> int:
    """Number of the latest merge. As a fact it stands for all files: every merge changes it."""
    return int(await step.fetchval("SELECT max(id) FROM workspace.merge", validate=validate))


async def files_at(step: Step, merge: int) -> dict[str, str]:
    """Contents by path as of a merge. Never changes for a given number, so it need not be validated."""
    rows = await step.fetch(
        "SELECT DISTINCT ON (path) path, content FROM workspace.file WHERE merge <= $1 ORDER BY path, merge DESC",
        merge,
        validate=False,
    )
    return {row["path"]: row["content"] for row in rows}


async def rest_on(step: Step, paths: Sequence[str]) -> None:
    """Make it a fact that no merge has changed these files since; merges of others do not matter."""
    await step.fetch(
        "SELECT path, max(merge) FROM workspace.file WHERE path = ANY($1) GROUP BY path ORDER BY path",
        sorted(set(paths)),
    )
