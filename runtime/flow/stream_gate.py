"""Showing a super-step once, after it has committed. Pure: it sees chunks, nothing else.

LangGraph emits a task's `updates` when the task finishes, before the super-step's commit, and emits a super-step again
when it is run again. `Gate` holds such chunks back until the commit they belong to has happened and forgets them when
it fails, so a consumer sees each super-step exactly once. Tokens (`messages`) and `custom` events pass at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.checkpointer import CACHED_MARK, INTERRUPT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Chunk", "Gate", "Shape"]

_LIVE = frozenset({"messages", "custom", "tools"})
_HIDDEN = ("updates", "checkpoints")  # asked for always: interrupts show in the first, commits in the second


class Chunk(NamedTuple):
    """One item of a LangGraph stream, whatever the shape it came in."""

    ns: tuple[str, ...]
    mode: str
    data: Any
    raw: Any


@dataclass(frozen=True, slots=True)
class Shape:
    """How the caller wants chunks, and how to ask LangGraph for them."""

    modes: tuple[str, ...]
    single: bool
    subgraphs: bool
    version: str

    @classmethod
    def of(cls, stream_mode: str | Sequence[str], *, subgraphs: bool, version: str) -> Shape:
        """From the arguments of `stream`."""
        single = isinstance(stream_mode, str)
        modes = (stream_mode,) if isinstance(stream_mode, str) else tuple(stream_mode)
        return cls(modes, single, subgraphs, version)

    @property
    def asked(self) -> list[str]:
        """The modes to ask LangGraph for."""
        return list(dict.fromkeys((*self.modes, *_HIDDEN)))

    @staticmethod
    def checkpoint(chunk: Chunk) -> str | None:
        """The checkpoint that a chunk announces, if it is the mark of a commit."""
        return str(chunk.data["config"]["configurable"]["checkpoint_id"]) if chunk.mode == "checkpoints" else None

    def read(self, raw: Any) -> Chunk:
        """A chunk as LangGraph gives it for a list of modes."""
        if self.version == "v2":
            return Chunk(tuple(raw["ns"]), raw["type"], raw["data"], raw)
        if self.subgraphs:
            ns, mode, data = raw
            return Chunk(tuple(ns), mode, data, raw)
        mode, data = raw
        return Chunk((), mode, data, raw)

    def show(self, chunk: Chunk) -> Any:
        """The chunk in the shape the caller asked for."""
        if self.version == "v2":
            return {**chunk.raw, "data": chunk.data}
        if self.single:
            return (chunk.ns, chunk.data) if self.subgraphs else chunk.data
        return (chunk.ns, chunk.mode, chunk.data) if self.subgraphs else (chunk.mode, chunk.data)


@dataclass(slots=True)
class Gate:
    """Holds chunks of one attempt of a run until their super-step has committed.

    The mark of a commit is LangGraph's own `checkpoints` event: it is emitted when the next super-step is about to
    start, behind all chunks of the one before. The code that drives the stream waits, at that event, until the
    checkpoint it names is committed, and only then pushes it; so LangGraph does not start the next super-step earlier
    either.

    Attributes:
        again: this attempt re-enters after a conflict: LangGraph first repeats the values it started from, and marks
            results it kept as cached; neither is news to the consumer.
        interrupted: a question to a human came by.
    """

    shape: Shape
    again: bool = False
    interrupted: bool = False
    _begun: set[str] = field(default_factory=set)
    _repeats: set[str] = field(default_factory=set)
    _held: list[Chunk] = field(default_factory=list)  # in the order they came

    def push(self, chunk: Chunk) -> Iterator[Any]:
        """Take a chunk; give what may be shown now."""
        ns = "|".join(chunk.ns)
        if chunk.mode in _LIVE:
            yield from self._show(chunk)
        elif chunk.mode == "debug" and chunk.data["type"] == "checkpoint":  # the twin of the event before it
            if ns not in self._repeats:
                yield from self._show(chunk)
        elif chunk.mode == "checkpoints":
            self._repeats.discard(ns)
            yield from self._release(ns)
            if self.again and ns not in self._begun:
                self._repeats.add(ns)
            else:
                yield from self._show(chunk)
            self._begun.add(ns)
        elif _asks(chunk):
            self.interrupted = self.interrupted or (chunk.mode == "updates" and not ns)
            self._held.append(chunk)
        elif not (self.again and chunk.mode == "values" and ns not in self._begun):
            self._held.append(chunk)

    def _release(self, ns: str) -> Iterator[Any]:
        """What was held for a namespace, and for subgraphs below it that have no checkpoints of their own.

        Questions are held to the end: one that is shown is open.
        """
        held, self._held = self._held, []
        for chunk in held:
            if _asks(chunk) or not _is_within("|".join(chunk.ns), ns):
                self._held.append(chunk)
            else:
                yield from self._show(chunk)

    def finish(self, renamed: Mapping[str, str] = MappingProxyType({})) -> Iterator[Any]:
        """The run has ended without an error: show the questions that are open now, and what stands beside them.

        Results of tasks beside an interrupted one are saved but not committed. Like LangGraph, a resume shows them
        again, marked as kept, or as they are then if their facts have moved.

        Args:
            renamed: names of questions, LangGraph's to those they were given when they were saved. Questions have
                theirs by now; what LangGraph made of them for these events was made before.
        """
        held, self._held = self._held, []
        for chunk in held:
            if chunk.mode in ("tasks", "debug"):
                for question in _task(chunk).get("interrupts", ()):
                    if isinstance(question, dict):
                        question["id"] = renamed.get(question["id"], question["id"])
            yield from self._show(chunk)

    def _show(self, chunk: Chunk) -> Iterator[Any]:
        if chunk.mode not in self.shape.modes:
            return
        if self.again and chunk.mode == "updates" and isinstance(chunk.data, dict) and CACHED_MARK in chunk.data:
            data = {key: value for key, value in chunk.data.items() if key != CACHED_MARK}
            chunk = chunk._replace(data=data)
        yield self.shape.show(chunk)


def _is_within(ns: str, outer: str) -> bool:
    return not outer or ns == outer or ns.startswith(f"{outer}|")


def _task(chunk: Chunk) -> dict[str, Any]:
    payload: dict[str, Any] = chunk.data["payload"] if chunk.mode == "debug" else chunk.data
    return payload


def _asks(chunk: Chunk) -> bool:
    if chunk.mode == "values" and isinstance(chunk.raw, dict) and chunk.raw.get("interrupts"):
        return True
    return chunk.mode in ("updates", "values") and isinstance(chunk.data, dict) and INTERRUPT in chunk.data
