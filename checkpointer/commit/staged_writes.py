"""Applying what tasks staged, in the transaction that commits their super-step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.commit.carrying import note_applied
from superstep.checkpointer.commit.spawning import no_queue, spawn
from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    MISSING_TABLES,
    Connection,
    is_collision,
    is_lost,
    is_rejection,
    is_serialization_failure,
    is_shortage,
    plain,
    short,
)
from superstep.checkpointer.shared.queries import Writer
from superstep.checkpointer.step.after_writes import answers_after_writes
from superstep.checkpointer.step.drift import Drift
from superstep.checkpointer.step.order import still_holds
from superstep.checkpointer.step.read_set import Emission, Reduction, Spawning
from superstep.runtime.faults import RuntimeFault, StagedWriteFailed, SwapRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.read_set import Effect, Staged
    from superstep.checkpointer.step.superstep import SuperStep

__all__ = ["MismatchedRows", "SiblingConflict", "apply_staged", "check_rows"]

_OWN = Reduction | Emission | Spawning  # what is not sent as it was staged


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
        if written and effect.reads and await _moved_by_siblings(step, effect):
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


async def _moved_by_siblings(step: SuperStep, effect: Effect) -> bool:
    """Whether writes that are applied by now, of tasks before this one, have changed what it rests on.

    In the committing transaction, which stays as it is.
    """
    conn = step.snapshot.connection
    reads = [read for log in step.tasks[effect.task_id].logs() for read in log]
    answers = await answers_after_writes(conn, reads, step.owner.database.apart)
    return not all([await still_holds(conn, read, answer) for read, answer in zip(reads, answers, strict=True)])


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
        if last is not None and _are_alike(last, each):
            found[-1].append(each)
        else:
            found.append([each])
    return found


def _are_alike(one: Staged, other: Staged) -> bool:
    if isinstance(one, _OWN) or isinstance(other, _OWN):
        return type(one) is type(other)
    return one.sql == other.sql and bool(other.args) and one.expect_rows is other.expect_rows is None


async def _reduce(step: SuperStep, effect: Effect, updates: Sequence[Staged]) -> None:
    """Merge updates of shared values that a task staged."""
    writer = Writer(step.owner.thread_id, step.ns, step.checkpoint_id, effect.task_id, effect.node)
    names = ", ".join(sorted({repr(each.args[0]) for each in updates}))
    try:
        await step.reductions.apply(step.snapshot.connection, [each.args for each in updates], writer)
    except SwapRefused as e:
        step.contended((step.tasks[effect.task_id], read) for read in effect.reads)
        await step.reject(effect)
        raise MismatchedRows(
            f"{effect.node!r} must decide again: {e}", tasks=[effect.node], attempts=step.costs.attempts
        ) from e
    except RuntimeFault as e:
        await step.reject(effect)
        raise StagedWriteFailed(
            f"What {effect.node!r} wrote to shared state ({names}) cannot be merged. The super-step was rolled back; "
            f"`runtime resume` (or input None) runs {effect.node!r} again. {e}",
            task=effect.node,
            sql=updates[0].sql,
            sqlstate=None,
        ) from e


async def _emit(conn: Connection, step: SuperStep, staged: Sequence[Staged]) -> None:
    """Put effects that a task has emitted into the outbox, and tell the workers. What is at fault is not the task."""
    from superstep.checkpointer.effects.delivery import job_for
    from superstep.checkpointer.effects.emission import put_out
    from superstep.checkpointer.effects.emitted import Emitted
    from superstep.checkpointer.effects.queue import Queue

    database, queue = step.owner.database, Queue(step.owner.database)
    await queue.ready()
    emitted = [Emitted(*each.args) for each in staged]
    put = await put_out(conn, database.schema, step.seal, step.owner.thread_id, emitted, step.owner.effects)
    try:
        await queue.put(conn, [job_for(effect_id) for effect_id in put])
    except MISSING_TABLES as e:
        raise no_queue(database.schema) from e


async def _apply_own(conn: Connection, step: SuperStep, effect: Effect, alike: Sequence[Staged]) -> None:
    if isinstance(alike[0], Reduction):
        await _reduce(step, effect, alike)
    elif isinstance(alike[0], Emission):
        await _emit(conn, step, alike)
    else:
        await spawn(conn, step, alike)


async def _apply(conn: Connection, step: SuperStep, effect: Effect, alike: Sequence[Staged]) -> None:
    staged, status = alike[0], ""
    try:
        if isinstance(staged, _OWN):
            await _apply_own(conn, step, effect, alike)
        elif len(alike) > 1:
            await step.snapshot.execute_alike(alike)
        else:
            status = await step.snapshot.execute_staged(staged)
    except (*DRIVER_ERRORS, ValueError, TypeError) as e:
        if is_serialization_failure(e) or is_lost(e, conn) or (is_collision(e) and not step.collided):
            raise
        if is_shortage(e):  # no fault of the task's, whose result is kept
            raise
        if isinstance(e, asyncpg.LockNotAvailableError) and step.snapshot.members > 1:
            raise  # those before it in the transaction do not wait for that lock
        await step.reject(effect)
        raise StagedWriteFailed(
            f"The database rejected a write staged by {effect.node!r}: {plain(e)}. The super-step was rolled back; "
            f"`runtime resume` (or input None) runs {effect.node!r} again. Statement: {short(staged.sql)}",
            task=effect.node,
            sql=staged.sql,
            sqlstate=getattr(e, "sqlstate", None) if isinstance(e, asyncpg.PostgresError) else None,
        ) from e
    await step.snapshot.check_open(staged.sql)
    if len(alike) == 1:
        await note_applied(staged, step.owner.database, conn)
        await check_rows(step, effect, staged, int(status.rsplit(" ", 1)[-1]) if status[-1:].isdigit() else 0)


async def check_rows(step: SuperStep, effect: Effect, staged: Staged, touched: int) -> None:
    """A staged write has touched so many rows, in the committing transaction.

    Raises:
        MismatchedRows: it was to touch others. The transaction is rolled back, its task's result taken back.
    """
    if staged.expect_rows is None or touched == staged.expect_rows:
        return
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
