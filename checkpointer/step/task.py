"""One execution of one task, and what a super-step's attempts cost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp

from superstep.checkpointer.step.read_set import Effect, Read, Staged
from superstep.runtime.faults import StepConflict

if TYPE_CHECKING:
    import asyncio

__all__ = ["Attempt", "Costs", "Drift"]

_tokens = itertools.count(1)


class Drift(StepConflict, GraphBubbleUp):
    """The facts of the calling task have changed.

    Raised inside nodes and tools. It is one of LangGraph's bubble-up exceptions, so neither a retry policy nor a tool
    node's error handling swallows it, and sibling tasks may finish what they are paying for.
    """


@dataclass(slots=True, eq=False)
class Attempt:
    """One execution of one task, with its own log.

    `token` marks the LangGraph writes of this very execution, once it has used its step (`marked`). `runner` is the
    asyncio task it began in, if it began in one. `asked_llm` has, by digest of a request to a
    model, one bit for each of its numbers that was answered.
    """

    task_id: str
    node: str
    number: int
    callers: dict[str, str] = field(default_factory=dict)
    marked: bool = False
    asked: bool = False
    runner: asyncio.Task[Any] | None = None
    token: str = field(default_factory=lambda: f"superstep:{next(_tokens)}")
    reads: list[Read] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    asked_llm: dict[bytes, int] = field(default_factory=dict)

    def effect(self, *, path: str, asked: bool = False) -> Effect:
        """The log as it is stored. What an interrupted task staged is not part of anything yet."""
        staged = [] if asked else list(self.staged)
        return Effect(self.task_id, self.node, list(self.reads), staged, path, asked, self.callers, list(self.uses))


@dataclass(slots=True)
class Costs:
    """What the attempts of a super-step have cost so far, this one included."""

    attempts: int = 1
    repairs: int = 0
    drifts: int = 0
    llm_reused: int = 0
    ms: float = 0.0
