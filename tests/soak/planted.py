"""Defects for tests of the tests: what only shows when processes die, and those of the isolation tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.calls import memo
from superstep.checkpointer.commit import barrier
from superstep.checkpointer.commit import queries as committing
from superstep.checkpointer.step import subtransaction
from superstep.checkpointer.threads.queries import running
from tests.isolation.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["PLANTED", "edit"]


def _writes_commit_apart(patch: pytest.MonkeyPatch) -> None:
    whole = barrier.apply_staged

    async def apart(conn: Any, step: Any, effects: Any) -> None:
        await whole(conn, step, effects)
        await conn.execute("COMMIT")
        await conn.execute(f"{subtransaction.OPEN}; {subtransaction.UNPROTECTED}")

    patch.setattr(barrier, "apply_staged", apart)
    patch.setattr(barrier, "load_of", lambda *_: None)


def _nobody_is_fenced(patch: pytest.MonkeyPatch) -> None:
    edit(patch, running, "claim", "SET token = DEFAULT, graph", "SET graph")
    for name in ("put_root", "put_root_after", "put_roots"):
        edit(patch, committing, name, "head IS NOT DISTINCT FROM $23", "($23::text IS NULL OR true)")
        edit(patch, committing, name, "t.head IS NOT DISTINCT FROM g.head", "true")


def edit(patch: pytest.MonkeyPatch, module: Any, name: str, old: str, new: str) -> None:
    """Have a module send one of its statements with `new` for `old`."""
    statements = module._sql

    def edited(schema: str) -> dict[str, str]:
        found = dict(statements(schema))
        found[name] = found[name].replace(old, new)
        return found

    patch.setattr(module, "_sql", edited)


def _answers_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def stored(*_: Any) -> None:
        return

    patch.setattr(memo.StepMemo, "_store", stored)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    **{name: mutant.turn for name, mutant in MUTANTS.items()},
    "writes and checkpoint commit apart": _writes_commit_apart,
    "nobody is fenced": _nobody_is_fenced,
    "answers are not kept": _answers_are_not_kept,
}
