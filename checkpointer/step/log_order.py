"""Which reads of a log may be asked once for all, and which have to be asked again in their order. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.step.statements import sets_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superstep.checkpointer.step.read_set import Read, Staged
    from superstep.checkpointer.step.task import Task

__all__ = ["key_of", "rests_on_settings"]


def key_of(read: Read, view: Sequence[Staged]) -> tuple[Any, ...]:
    """Equal for reads that ask the same question, of those made on top of staged writes on top of the same ones."""
    return (*read.key, *map(id, view)) if read.after else read.key


def rests_on_settings(log: Iterable[tuple[Task, Sequence[Read], Sequence[Staged]]]) -> bool:
    """Whether reads set what others depend on (`set_config`), or a function of the user's must have done that.

    In one snapshot the same question has one answer, unless something was set in between.
    """
    said: dict[tuple[Any, ...], bytes] = {}
    for _, reads, view in log:
        for read in reads:
            if sets_session(read.sql) or said.setdefault(key_of(read, view), read.digest) != read.digest:
                return True
    return False
