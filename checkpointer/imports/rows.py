"""What is read of a thread, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Checkpoint", "Counts", "Imported", "Outcome", "Value", "Write", "version_text"]

_DIGITS = 32  # of the count that LangGraph's versions begin with


class Checkpoint(NamedTuple):
    """A checkpoint as it is stored there: `stored` are the channels whose values have a row of their own."""

    ns: str
    checkpoint_id: str
    parent_id: str | None
    body: dict[str, Any]
    metadata: dict[str, Any]
    stored: Sequence[str]


class Value(NamedTuple):
    """A version of a channel's value, serialized."""

    ns: str
    channel: str
    version: str
    kind: str
    data: bytes


class Write(NamedTuple):
    """A pending write, serialized."""

    ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    task_path: str
    channel: str
    kind: str
    data: bytes


class Counts(NamedTuple):
    """Of one thread or of several: checkpoints and pending writes."""

    checkpoints: int = 0
    writes: int = 0

    def plus(self, other: Counts) -> Counts:
        """The sums."""
        return Counts(*(one + more for one, more in zip(self, other, strict=True)))


_NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one thread.

    Attributes:
        thread_id: its id.
        kind: "imported" as a whole; "continued": it was there, and what has come since was added; "there": it was, and
            is the same; "changed": it has been run or changed here since, so it was left as it is; "refused": nothing
            of it was stored.
        read: what was read of it. Of one that is there or changed nothing is.
        stored: what is there now, as the database counts it, or would be.
        strays: pending writes of checkpoints that are not there. LangGraph does not find them either; they were left.
        why: it was refused, or is changed.
    """

    thread_id: str
    kind: Literal["imported", "continued", "there", "changed", "refused"]
    read: Counts = _NOTHING
    stored: Counts = _NOTHING
    strays: int = 0
    why: str = ""


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        threads: how many became what, by `Outcome.kind`.
        read: what was read of the threads that were imported or continued.
        stored: what the database counts of those.
        strays: see `Outcome`.
        refused: the threads that were refused, and why.
        changed: the threads that were left as they are here.
        dry_run: nothing was stored.
    """

    threads: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("imported", "continued", "there", "changed", "refused"), 0)
    )
    read: Counts = _NOTHING
    stored: Counts = _NOTHING
    strays: int = 0
    refused: list[Outcome] = field(default_factory=list)
    changed: list[Outcome] = field(default_factory=list)
    dry_run: bool = False

    def add(self, each: Outcome) -> None:
        """Count one thread."""
        self.threads[each.kind] += 1
        self.read, self.stored = self.read.plus(each.read), self.stored.plus(each.stored)
        self.strays += each.strays
        if each.kind == "refused":
            self.refused.append(each)
        elif each.kind == "changed":
            self.changed.append(each)


def version_text(version: Any) -> str:
    """A version of a channel as the text that its order is the order of: early releases had bare numbers."""
    text = str(version)
    return text.zfill(_DIGITS) if text.isdigit() else text
