"""One task of a super-step: its executions, and what of them counts.

                 ┌──────────────────────────────▶ HYPOTHESIS ──┐ (saved by an earlier attempt of the super-step;
                 │ load                                 │      │  counts once its facts are validated)
    KNOWN ───────┤          ┌───── begin (newer) ───────│──┐   │
                 │ begin    ▼         finish            ▼  │   │ drift, from every state
                 └─────▶ RUNNING ─────────────────▶ FINISHED   ├──────────────▶ DRIFTED
                            │ ▲                                │  (nothing of it counts; another attempt of the
                   ask, fail│ │ begin                          │   super-step runs it again)
                            ▼ │                                │
                      ASKED, FAILED ───────────────────────────┘

At most one result of a task counts: that of the execution LangGraph says has finished. What abandoned, failed and
drifted executions read and staged is dropped the moment they are known to be that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.step.read_set import Effect, Observation, Read, Staged
from superstep.checkpointer.step.transitions import illegal_transition

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

    from superstep.checkpointer.children.waiting import Terms
    from superstep.runtime.telemetry.spans import TaskTrace

__all__ = ["Attempt", "Task", "TaskState"]

_marks = itertools.count(1)


class TaskState(Enum):
    """See the diagram above."""

    __hash__ = object.__hash__  # each is one of a kind, and that of `Enum` is slow

    KNOWN = "known"  # by name: as the caller of another task, or for a question asked by an earlier attempt
    RUNNING = "running"
    FINISHED = "finished"
    ASKED = "asked"  # it ended in an interrupt
    FAILED = "failed"
    HYPOTHESIS = "a hypothesis"
    DRIFTED = "drifted"


_ALLOWED = {
    TaskState.KNOWN: frozenset(TaskState) - {TaskState.ASKED},
    TaskState.RUNNING: frozenset(TaskState) - {TaskState.KNOWN, TaskState.HYPOTHESIS},
    TaskState.FINISHED: frozenset({TaskState.FINISHED, TaskState.RUNNING, TaskState.FAILED, TaskState.DRIFTED}),
    TaskState.ASKED: frozenset({TaskState.ASKED, TaskState.RUNNING, TaskState.FAILED, TaskState.DRIFTED}),
    TaskState.FAILED: frozenset({TaskState.FAILED, TaskState.RUNNING, TaskState.DRIFTED}),
    # An execution may begin beside a hypothesis; only when it has ended does it take the hypothesis' place.
    TaskState.HYPOTHESIS: frozenset(TaskState) - {TaskState.KNOWN, TaskState.RUNNING},
    TaskState.DRIFTED: frozenset({TaskState.DRIFTED}),
}


@dataclass(slots=True, eq=False)
class Attempt:
    """One execution of one task, with its own log.

    Attributes:
        task_id: LangGraph's id of the task.
        node: its name.
        number: LangGraph's count of the executions under a retry policy, from 1.
        callers: of a `@task` call, the tasks (id to node) that called it.
        path: LangGraph's path of the task, which puts the tasks of a super-step in order.
        view: staged writes of tasks before it that its reads are made on top of; `None` before its first read.
        mark: tells the LangGraph writes of this very execution from those of others, once it has used its step.
        marked: the execution has used its step, and its mark is among its writes.
        runner: the asyncio task it began in, if it began in one.
        reads: in call order.
        staged: in call order.
        uses: named versions of something, in the order of their first use.
        guards: what it has asked whether it still holds, and whether it did, see `threads.guards`.
        observed: what it read elsewhere, in call order.
        withheld: in a trial, how many writes it would have staged.
        answered: by digest of a request to a model, one bit for each of its numbers that was answered.
        root: the checkpoint that the super-step of the outermost graph started from.
        trace: its span; `None` while telemetry is off.
        terms: of the question that it stops at, if that has an end.
    """

    task_id: str
    node: str
    number: int
    callers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    view: tuple[Staged, ...] | None = None
    mark: str = field(default_factory=lambda: f"superstep:{next(_marks)}")
    marked: bool = False
    runner: asyncio.Task[Any] | None = None
    reads: list[Read] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    guards: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    observed: list[Observation] = field(default_factory=list)
    withheld: int = 0
    answered: dict[bytes, int] = field(default_factory=dict)
    root: str = ""
    trace: TaskTrace | None = None
    terms: Terms | None = None

    @property
    def to_apply(self) -> list[Staged]:
        """What it staged, as far as a commit is to apply it. In a trial only the task itself sees it."""
        return [] if self.withheld else list(self.staged)

    @property
    def cancelled(self) -> bool:
        """Whether its asyncio task was cancelled, as by a time limit of its caller."""
        return self.runner is not None and self.runner.cancelled()

    def effect(self, *, path: str, asked: bool = False) -> Effect:
        """The log as it is stored. What an interrupted task staged is not part of anything yet."""
        staged = [] if asked else self.to_apply
        return Effect(
            self.task_id,
            self.node,
            list(self.reads),
            staged,
            path,
            asked,
            self.callers,
            list(self.uses),
            list(self.guards),
            observed=list(self.observed),
            withheld=self.withheld,
        )


@dataclass(slots=True, eq=False)
class Task:
    """See the module.

    Attributes:
        id: LangGraph's id.
        node: its name.
        state: see `TaskState`.
        callers: of a `@task` call, the tasks (id to node) that called it: their results rest on its result.
        attempt: the newest execution. `None` if none began, and once nothing of it counts.
        effect: what the result that counts rests on. Only FINISHED and HYPOTHESIS have one, and FINISHED has none if
            the execution did not use its step.
        shown: what a human was shown before, by an execution that asked: it must hold, however the task ends.
        built_on: what committed super-steps of its subgraphs rest on, by executions of earlier runs that did not end. A
            subgraph goes on from there, so it must hold, too.
        noted: the reads that are stored as that, of this run.
        answers_since: the execution, counted over all runs, that the first one of this run has answers of models from.
        answered: it has taken a human's answer in this run.
        withdrawn: how often it has asked before, about facts that have moved since.
    """

    id: str
    node: str = "?"
    state: TaskState = TaskState.KNOWN
    callers: dict[str, str] = field(default_factory=dict)
    attempt: Attempt | None = None
    effect: Effect | None = None
    shown: Effect | None = None
    built_on: Effect | None = None
    noted: list[Read] = field(default_factory=list)
    answers_since: int | None = None
    answered: bool = False
    withdrawn: int = 0

    def load(self, saved: Effect, *, answered: bool = False) -> None:
        """What an earlier attempt of the super-step, perhaps of another process, left behind for this task.

        The result of a task that was `answered` by a human rests on facts; so does the answer, if the task runs again.

        LangGraph may load a graph again while its super-step is under way. What the task has done since counts then.
        """
        if saved.asked:
            self.shown = saved
        elif saved.calls:
            self.built_on = saved
        elif self.state in (TaskState.KNOWN, TaskState.HYPOTHESIS):
            self._become(TaskState.HYPOTHESIS, effect=saved)
            self.shown = saved if answered else self.shown
        if self.attempt is None:
            self.node, self.callers = saved.node, saved.callers

    def begin(self, node: str, number: int, callers: dict[str, str], path: str = "") -> Attempt:
        """The log of an execution: the same for the same number. A newer execution replaces an older one.

        Code that belongs to an older execution, or to a drifted task, gets a log that is never looked at.
        """
        if self.attempt is not None and self.attempt.number == number:
            return self.attempt
        attempt = Attempt(self.id, node, number, callers, path)
        superseded = self.attempt is not None and self.attempt.number > number
        if superseded or self.state is TaskState.DRIFTED:
            return attempt
        if self.state is not TaskState.HYPOTHESIS:
            self._become(TaskState.RUNNING)
        self.node, self.callers, self.attempt = node, callers, attempt
        return attempt

    def finish(self, mark: str | None, path: str) -> Effect | None:
        """LangGraph has the output of the execution with this mark: what that rests on.

        `None` if the output is not of the execution known here, or that did not use its step: then it rests on nothing.
        """
        of_this = self.attempt is not None and self.attempt.mark == mark
        effect = self._resting(self.attempt.effect(path=path)) if self.attempt is not None and of_this else None
        self._become(TaskState.FINISHED, effect=effect)
        if not of_this:
            self.attempt = None  # what an earlier execution read and staged is part of nothing any more
        return effect

    def adopt(self, left: Iterable[Attempt], path: str) -> Effect:
        """Let the task's result rest on what these executions did too."""
        effect = self.effect or Effect(self.id, self.node if self.took_part else "", path=path)
        for attempt in left:
            effect.node = effect.node or attempt.node
            effect.reads.extend(attempt.reads)
            effect.staged.extend(attempt.to_apply)
            effect.uses.extend(what for what in attempt.uses if what not in effect.uses)
            effect.guards.extend(attempt.guards)
            effect.observed.extend(attempt.observed)
            effect.withheld += attempt.withheld
        self._become(TaskState.FINISHED, effect=effect)
        self.node = effect.node or self.node
        return effect

    def ask(self, path: str) -> Effect | None:
        """It ended in an interrupt: the facts a human is shown; `None` if no execution is known here."""
        if self.attempt is None:
            return None
        self._become(TaskState.ASKED)
        return self._resting(self.attempt.effect(path=path, asked=True))

    def _resting(self, effect: Effect) -> Effect:
        """The effect, with what the task's subgraphs were built on before this run."""
        if self.built_on is not None:
            known = {(read.key, read.digest) for read in effect.reads}
            effect.reads[:0] = [read for read in self.built_on.reads if (read.key, read.digest) not in known]
        return effect

    def fail(self) -> None:
        """It ended in an error: nothing of it counts."""
        self._become(TaskState.FAILED)
        self.attempt = self.shown = None

    def drift(self) -> bool:
        """Facts of it have changed: nothing of it counts. Whether it had asked a human, who must be asked again."""
        asked = self.shown is not None or self.answered
        self._become(TaskState.DRIFTED)
        self.attempt = self.shown = self.built_on = None
        self.withdrawn += asked
        return asked

    def knows(self, mark: str) -> bool:
        """Whether the marked execution happened in this attempt of the super-step."""
        return self.attempt is not None and self.attempt.mark == mark

    def has_ended(self, attempt: Attempt) -> bool:
        """Whether this execution is over, as LangGraph says: it returned, asked a human, or failed."""
        if self.state is TaskState.FAILED:
            return self.attempt is None
        return self.state in (TaskState.FINISHED, TaskState.ASKED) and self.attempt is attempt

    @property
    def awaited(self) -> bool:
        """Whether an execution that used its step has not been handed in yet."""
        handed_in = self.state in (TaskState.FINISHED, TaskState.ASKED)
        return self.attempt is not None and self.attempt.marked and not handed_in

    @property
    def took_part(self) -> bool:
        """Whether an execution of the task is known here, be it of an earlier attempt of the super-step.

        A task whose result only rests on what others have left (`adopt`) is none: LangGraph itself says that it ran.
        """
        saved = self.state is TaskState.HYPOTHESIS or self.shown is not None
        return self.attempt is not None or saved

    def logs(self) -> Iterator[list[Read]]:
        """All reads that the task rests on, what a human was shown included."""
        if self.shown is not None:
            yield self.shown.reads
        if self.built_on is not None:
            yield self.built_on.reads
        if self.effect is not None and (self.attempt is None or self.state is TaskState.FINISHED):
            yield self.effect.reads  # a hypothesis whose task runs again is about to be replaced
        if self.attempt is not None and self.state is not TaskState.FINISHED:
            yield self.attempt.reads

    def _become(self, state: TaskState, effect: Effect | None = None) -> None:
        if state not in _ALLOWED[self.state]:
            raise illegal_transition(self.state, state, f"Task {self.id} of node {self.node!r}")
        self.state, self.effect = state, effect
