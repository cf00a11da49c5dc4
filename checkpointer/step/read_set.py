"""What a task saw and what it wants written: the read log and the staged writes. Pure data, no driver.

A read is remembered by its statement, its arguments and a digest of the rows it returned; the rows themselves are not
kept. Two reads of the same facts have equal digests, which is all that repair and drift detection need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.step.statements import is_ordered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Effect", "Read", "Staged", "digest_result", "digest_rows"]


@dataclass(frozen=True, slots=True)
class Read:
    """One read of one task.

    Attributes:
        sql: the statement as given.
        args: its arguments.
        digest: 16 bytes over the rows it returned, see `digest_rows`.
    """

    sql: str
    args: tuple[Any, ...]
    digest: bytes

    @property
    def key(self) -> tuple[str, str]:
        """Equal for reads that ask the same question."""
        return self.sql, repr(self.args)


@dataclass(frozen=True, slots=True)
class Staged:
    """One write to apply at the barrier. `expect_rows` is the row count the command must report, or `None`."""

    sql: str
    args: tuple[Any, ...]
    expect_rows: int | None = None


@dataclass(slots=True)
class Effect:
    """The facts and writes behind one task's result, as stored beside it.

    Attributes:
        task_id: LangGraph's id of the task.
        node: name of the node, for messages and history.
        reads: its read log, in call order.
        staged: its writes, in call order.
        path: LangGraph's task path; staged writes of a step are applied in its order.
        asked: the task ended in an interrupt: the reads are what a human was shown.
        callers: of a `@task` call, the tasks (id to node) that called it: their results rest on its result.
        uses: named versions that it used, such as "verify@3", in the order of their first use.
    """

    task_id: str
    node: str
    reads: list[Read] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    path: str = ""
    asked: bool = False
    callers: dict[str, str] = field(default_factory=dict)
    uses: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.reads or self.staged or self.uses)

    def dump(self) -> list[Any]:
        """A msgpack-ready form; `load` reads it back. Without `uses`, the first release can read it too."""
        reads = [[r.sql, list(r.args), r.digest] for r in self.reads]
        staged = [[s.sql, list(s.args), s.expect_rows] for s in self.staged]
        return [self.node, reads, staged, self.path, self.asked, self.callers, *([self.uses] if self.uses else [])]

    @classmethod
    def load(cls, task_id: str, dumped: Sequence[Any]) -> Effect:
        """The inverse of `dump`."""
        node, reads, staged, path, asked, callers, *uses = dumped
        return cls(
            task_id=task_id,
            node=node,
            reads=[Read(sql, tuple(args), digest) for sql, args, digest in reads],
            staged=[Staged(sql, tuple(args), expect) for sql, args, expect in staged],
            path=path,
            asked=asked,
            callers=callers,
            uses=list(*uses),
        )


def digest_rows(rows: Iterable[Any], *, ordered: bool) -> bytes:
    """A 16-byte digest of rows of Python values, equal exactly when the rows are.

    SQL without ORDER BY promises no order, and a heap scan does change its order when a row is updated; so unordered
    rows are digested as a multiset. `repr` is used because it is exact for every type the driver returns (floats and
    decimals round-trip) and needs no per-type code.
    """
    hashes = [blake2b(repr(tuple(row)).encode(), digest_size=16).digest() for row in rows]
    if not ordered:
        hashes.sort()
    return blake2b(b"".join(hashes), digest_size=16).digest()


def digest_result(sql: str, rows: Iterable[Any]) -> bytes:
    """The digest of what a statement returned: in order, if the statement may promise one."""
    return digest_rows(rows, ordered=is_ordered(sql))
