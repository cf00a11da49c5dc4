"""Which run, super-step and task some code belongs to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.keys import NO_WRITES
from superstep.checkpointer.langgraph.place import task_place
from superstep.checkpointer.step.step import Step
from superstep.checkpointer.threads.registry import Registry
from superstep.checkpointer.threads.tracing import enter
from superstep.runtime.faults import ConfigError, NoActiveStep, StaleRun

if TYPE_CHECKING:
    from superstep.checkpointer.langgraph.place import TaskPlace
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt
    from superstep.checkpointer.threads.run import Run

__all__ = ["CurrentTask", "current_step", "current_task", "paying_task", "refuse_blocking"]


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """The task that some code belongs to, the run that the task is part of, and where that run is registered.

    Attributes:
        runs: where the run is registered.
        run: the run.
        place: the task's.
        runs_apart: the code runs in a subgraph of the task that has no barrier, in a task of its own.
    """

    runs: Registry
    run: Run
    place: TaskPlace
    runs_apart: bool = False

    @property
    def checkpoint_id(self) -> str:
        """The checkpoint that the task's super-step started from."""
        return self.place.checkpoint_map[self.place.ns]

    @property
    def root_checkpoint_id(self) -> str:
        """The same for the super-step of the outermost graph."""
        return self.place.checkpoint_map.get("", "")

    def enter(self) -> tuple[SuperStep, Attempt]:
        """The super-step and the log of this very execution of the task.

        Raises:
            StepConflict: the task's facts have changed.
            NoActiveStep: the super-step is over.
        """
        place = self.place
        step = self.run.step(place.ns, self.checkpoint_id)
        attempt = step.attempt(place.task_id, place.node, place.attempt, place.callers, place.path)
        attempt.root = self.root_checkpoint_id
        if (trace := self.run.options.trace) is not None:
            enter(self.run, trace, (place.ns, self.checkpoint_id), attempt)
        return step, attempt


def current_step() -> Step:
    """The step of the task that is running here.

    Raises:
        NoActiveStep: not called from a task of a graph that runs with a `TransactionalSaver`.
        StaleRun: the run has lost its thread to a later one.
        ConfigError: several tasks run this subgraph at once, and it has one history for all of them; or the run has
            durability "exit".
        StepConflict: what the task has read has changed. Do not catch it: it makes the task run again.
    """
    here = current_task()
    here.run.refuse_shared(here.place.ns)
    here.run.refuse_exit(here.place.ns)
    step, attempt = here.enter()
    if not attempt.marked:
        attempt.marked, attempt.runner = True, _asyncio_task()
        here.place.send([(NO_WRITES, attempt.mark)])  # see `langgraph.keys`
    return Step(step, attempt, here.runs.database, here.runs.embedder, here.runs.collections)


def current_task() -> CurrentTask:
    """The task that the calling code belongs to.

    Raises:
        NoActiveStep: none that a `TransactionalSaver` knows.
        StaleRun: its run has ended.
        ConfigError: it is of a subgraph without a barrier.
    """
    task = paying_task()
    if task.runs_apart:
        raise _no_barrier(_place())
    return task


def paying_task() -> CurrentTask:
    """The task that calls of models made here belong to: of a subgraph without a barrier, the task that runs it.

    Raises:
        NoActiveStep: none that a `TransactionalSaver` knows.
        StaleRun: its run has ended.
        ConfigError: no graph around the calling code has a barrier.
    """
    place = _place()
    runs: Any = getattr(place.saver, "runs", None)
    if not isinstance(runs, Registry):
        raise _no_saver()
    run = runs.find(place.run_key, place.thread_id)
    if run is None:
        raise StaleRun(f"The run of thread {place.thread_id!r} that this task belongs to has ended.")
    if run.has_loaded(place.ns):
        return CurrentTask(runs, run, place)
    around = place.around(run.has_loaded)
    if around is None:
        raise _no_barrier(place)
    return CurrentTask(runs, run, around, runs_apart=True)


def _place() -> TaskPlace:
    try:
        place = task_place()
    except RuntimeError as e:
        raise NoActiveStep("No super-step is running here: call this inside a node, or in what a node awaits.") from e
    if place is None:
        raise _no_saver()
    return place


def _no_saver() -> NoActiveStep:
    return NoActiveStep(
        "The graph running here has no TransactionalSaver: compile it with checkpointer=saver and invoke it with a "
        "thread_id."
    )


def _no_barrier(place: TaskPlace) -> ConfigError:
    return ConfigError(
        f"Node {place.node!r} belongs to a subgraph without a checkpointer of its own (or to a kind of task this "
        f"version does not know), so no barrier would ever commit what it stages. Compile that subgraph without "
        f"checkpointer=False."
    )


def refuse_blocking() -> None:
    """Raise `NoActiveStep` if code that blocks here would block the loop that serves its own super-step.

    Does nothing outside of super-steps: there a call needs no loop but its own.
    """
    try:
        here = paying_task()
    except NoActiveStep:
        return
    try:
        here.run.database.home.refuse_blocking()
    except NoActiveStep:
        raise NoActiveStep(
            f"Node {here.place.node!r} called a model with invoke or stream on the event loop that has to serve the "
            f"super-step, so both would wait for ever. Await ainvoke, iterate astream, or make the node a plain "
            f"`def`: LangGraph runs those in threads."
        ) from None


def _asyncio_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a synchronous node, in a thread
        return None
