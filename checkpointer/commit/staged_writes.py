"""Applying what tasks staged, in the transaction that commits their super-step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    Connection,
    is_lost,
    is_serialization_failure,
    plain,
    short,
)
from superstep.checkpointer.step.superstep import Drift, SuperStep
from superstep.runtime.faults import StagedWriteFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from superstep.checkpointer.step.read_set import Effect, Staged

__all__ = ["MismatchedRows", "apply_staged"]


class MismatchedRows(Drift):
    """A staged write touched another number of rows than it expected."""


async def apply_staged(conn: Connection, step: SuperStep, effects: Iterable[Effect]) -> None:
    """Apply the staged writes of these effects, in their order and each task's in the order of its calls.

    Raises:
        StagedWriteFailed: the database rejected one. The transaction is rolled back, its task's result taken back.
        MismatchedRows: one touched another number of rows than it expected. The same.
    """
    for effect in effects:
        for staged in effect.staged:
            await _apply(conn, step, effect, staged)


async def _apply(conn: Connection, step: SuperStep, effect: Effect, staged: Staged) -> None:
    try:
        status = await _execute(conn, staged)
    except (*DRIVER_ERRORS, ValueError, TypeError) as e:
        if is_serialization_failure(e) or is_lost(e, conn):
            raise
        await step.reject(effect)
        raise StagedWriteFailed(
            f"The database rejected a write staged by {effect.node!r}: {plain(e)}. The super-step was rolled back; "
            f"`runtime resume` (or input None) runs {effect.node!r} again. Statement: {short(staged.sql)}",
            task=effect.node,
            sql=staged.sql,
            sqlstate=getattr(e, "sqlstate", None) if isinstance(e, asyncpg.PostgresError) else None,
        ) from e
    touched = int(status.rsplit(" ", 1)[-1]) if status[-1:].isdigit() else 0
    if staged.expect_rows is not None and touched != staged.expect_rows:
        await step.reject(effect)
        raise MismatchedRows(
            f"A write staged by {effect.node!r} was to touch {staged.expect_rows} row(s) and touched {touched}. "
            f"Nothing was written; {effect.node!r} must decide again on what is there now. "
            f"Statement: {short(staged.sql)}",
            tasks=[effect.node],
            attempts=step.costs.attempts,
        )


async def _execute(conn: Connection, staged: Staged) -> str:
    """The command tag. Always by the extended protocol, which takes one statement: no "...; COMMIT" gets through."""
    if staged.args:
        return await conn.execute(staged.sql, *staged.args)
    statement = await conn.prepare(staged.sql)
    await statement.fetch()
    return statement.get_statusmsg() or ""
