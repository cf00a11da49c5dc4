"""Applying what tasks staged, in the transaction that commits their super-step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    Connection,
    is_collision,
    is_lost,
    is_rejection,
    is_serialization_failure,
    is_shortage,
    plain,
    short,
)
from superstep.checkpointer.step.drift import Drift
from superstep.runtime.faults import StagedWriteFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.read_set import Effect, Staged
    from superstep.checkpointer.step.superstep import SuperStep

__all__ = ["MismatchedRows", "SiblingConflict", "apply_staged"]


class MismatchedRows(Drift):
    """A staged write touched another number of rows than it expected."""


class SiblingConflict(Drift):
    """Tasks of one super-step rest on what others of it write: they run again, after those."""


async def apply_staged(conn: Connection, step: SuperStep, effects: Sequence[Effect]) -> None:
    """Apply the staged writes of these effects, in their order and each task's in the order of its calls.

    A super-step has the effect of its tasks one after the other. So what a task has read is validated once more after
    the writes of the tasks before it; one that these have moved could not have run there.

    Raises:
        StagedWriteFailed: the database rejected one. The transaction is rolled back, its task's result taken back.
        MismatchedRows: one touched another number of rows than it expected. The same.
        SiblingConflict: what some tasks have read, others before them write. The same for all of those.
    """
    written, moved = False, []
    for effect in effects:
        if written and effect.reads and await step.moved_by_siblings(effect):
            moved.append(effect)
            continue
        for alike in _in_turn(effect.staged):
            await _apply(conn, step, effect, alike)
        written = written or bool(effect.staged)
    if step.collided:
        await _check_deferred(conn, step, [effect for effect in effects if effect.staged])
    if moved:
        await step.reject_all(moved)
        names = sorted({effect.node for effect in moved})
        raise SiblingConflict(
            f"What {', '.join(names)} had read is written by other tasks of the same super-step, before "
            f"{'theirs' if len(moved) > 1 else 'its own'} in order. Nothing was written; only "
            f"{len(moved)} task(s) run again, after the others, when the thread is run with input None "
            f"(transactional(graph) does that).",
            tasks=[effect.node for effect in moved],
            attempts=step.costs.attempts,
        )


async def _check_deferred(conn: Connection, step: SuperStep, effects: Sequence[Effect]) -> None:
    """Check now what deferred constraints and triggers would check at COMMIT, where no task could be told of it.

    Which of the tasks' writes do not fit together is not known: all of them run again.
    """
    try:
        await conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except asyncpg.PostgresError as e:
        if not is_rejection(e):
            raise
        await step.reject_all(effects)
        names = ", ".join(sorted({repr(effect.node) for effect in effects}))
        raise StagedWriteFailed(
            f"The database rejected what {names} staged when deferred constraints or triggers were checked: "
            f"{plain(e)}. The super-step was rolled back; `runtime resume` (or input None) runs {names} again.",
            task=effects[-1].node,
            sql=effects[-1].staged[-1].sql,
            sqlstate=e.sqlstate,
        ) from e


def _in_turn(staged: Sequence[Staged]) -> list[list[Staged]]:
    """In their order: those that follow each other with the same statement, and need no answer each, together."""
    found: list[list[Staged]] = []
    for each in staged:
        last = found[-1][-1] if found else None
        alike = last is not None and last.sql == each.sql and each.args and last.expect_rows is each.expect_rows is None
        if alike:
            found[-1].append(each)
        else:
            found.append([each])
    return found


async def _apply(conn: Connection, step: SuperStep, effect: Effect, alike: Sequence[Staged]) -> None:
    staged, status = alike[0], ""
    try:
        if len(alike) > 1:
            await step.snapshot.execute_alike(alike)
        else:
            status = await step.snapshot.execute_staged(staged)
    except (*DRIVER_ERRORS, ValueError, TypeError) as e:
        if is_serialization_failure(e) or is_lost(e, conn) or (is_collision(e) and not step.collided):
            raise
        if is_shortage(e):  # no fault of the task's, whose result is kept
            raise
        await step.reject(effect)
        raise StagedWriteFailed(
            f"The database rejected a write staged by {effect.node!r}: {plain(e)}. The super-step was rolled back; "
            f"`runtime resume` (or input None) runs {effect.node!r} again. Statement: {short(staged.sql)}",
            task=effect.node,
            sql=staged.sql,
            sqlstate=getattr(e, "sqlstate", None) if isinstance(e, asyncpg.PostgresError) else None,
        ) from e
    await step.snapshot.check_open(staged.sql)
    touched = int(status.rsplit(" ", 1)[-1]) if status[-1:].isdigit() else 0
    if staged.expect_rows is not None and touched != staged.expect_rows:
        # What it had read may hold, and yet not be what its write finds: it takes turns on all of it.
        step.contended((step.tasks[effect.task_id], read) for read in effect.reads)
        await step.reject(effect)
        raise MismatchedRows(
            f"A write staged by {effect.node!r} was to touch {staged.expect_rows} row(s) and touched {touched}. "
            f"Nothing was written; {effect.node!r} must decide again on what is there now. "
            f"Statement: {short(staged.sql)}",
            tasks=[effect.node],
            attempts=step.costs.attempts,
        )
