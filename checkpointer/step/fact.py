"""What is logged of a read whose decision rests on less than all of its rows: a condition on them. Pure.

A fact is a statement, its arguments and what it says. It need not be the statement that was run: whoever knows what
another one says in the same snapshot may have that one logged, and validated, in its place. Nothing of replay, repair,
stored hypotheses and shared transactions sees a difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from superstep.checkpointer.step.answers import returned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from superstep.checkpointer.step.answers import Answer
    from superstep.checkpointer.step.read_set import Read

__all__ = ["Condense", "Fact", "logged"]


class Fact(NamedTuple):
    """What stands for a read in the log.

    Attributes:
        sql: the statement; a read.
        args: its arguments.
        rows: what it returns in the snapshot of the read.
        seen: what the read was about: as long as these are the same, another look was for nothing.
    """

    sql: str
    args: tuple[Any, ...]
    rows: Sequence[Any]
    seen: Sequence[Any]


Condense: TypeAlias = "Callable[[Sequence[asyncpg.Record], bool], Fact]"
"""Makes the fact of the rows that a read has returned. It is told whether that was on top of staged writes, which no
snapshot covers."""


async def logged(read: Read, answer: Answer, condense: Condense | None) -> tuple[Read, Answer, bytes]:
    """What to log of a read, what that says, and a digest of what the read was about."""
    if condense is None or answer.error is not None:
        return read, answer, answer.digest
    fact = condense(answer.rows, read.after)
    said = await returned(fact.sql, fact.rows)
    instead = replace(
        read, sql=fact.sql, args=fact.args, digest=said.digest, columns=said.columns, condition_on=read.question
    )
    return instead, said, (await returned(read.sql, fact.seen)).digest
