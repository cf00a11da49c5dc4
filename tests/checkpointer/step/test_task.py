"""States of a task: illegal events raise and change nothing; no result of a lost execution is ever kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from superstep.checkpointer.step.read_set import Effect, Read, Staged
from superstep.checkpointer.step.task import _ALLOWED, Attempt, Task, TaskState
from superstep.checkpointer.step.transitions import IllegalTransition

IDS = ["a", "b"]


@dataclass
class Model:
    """What ought to be known of one task: which writes may be applied, and whether it may still change."""

    drifted: bool = False
    counting: list[str] | None = None  # writes of the result that counts
    newest: Attempt | None = None
    asked_before: bool = False
    dead: set[str] = field(default_factory=set)  # writes that must never be applied from now on


class TaskMachine(RuleBasedStateMachine):
    """Random events, legal and illegal, on two tasks of one super-step."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.tasks = {each: Task(each) for each in IDS}
        self.models = {each: Model() for each in IDS}
        self.names = count()

    def on(self, task: Task, event: Any, *targets: TaskState) -> Any:
        """Let an event happen. If none of its target states may follow, it must raise and change nothing."""
        before = (task.state, task.attempt, task.effect, task.shown, task.facts_changed)
        if not _ALLOWED[task.state] & set(targets):
            with pytest.raises(IllegalTransition):
                event()
            assert (task.state, task.attempt, task.effect, task.shown, task.facts_changed) == before
            return None
        return event()

    @rule(which=st.sampled_from(IDS), asked=st.booleans())
    def load(self, which: str, asked: bool) -> None:
        task, model = self.tasks[which], self.models[which]
        if task.state is not TaskState.KNOWN or task.shown is not None:
            return  # loading comes first, and once
        write = f"w{next(self.names)}"
        task.load(Effect(which, "node", [Read(write, (), b"")], [Staged(write, ())], asked=asked))
        if asked:
            model.asked_before = True
            model.dead.add(write)
        else:
            model.counting = [write]

    @rule(target=attempts, which=st.sampled_from(IDS), number=st.integers(1, 4))
    def begin(self, which: str, number: int) -> tuple[str, Attempt]:
        task, model = self.tasks[which], self.models[which]
        attempt = task.begin("node", number, {})
        if not model.drifted and (model.newest is None or number > model.newest.number):
            if model.newest is not None:
                model.dead.update(write.sql for write in model.newest.staged)
            model.newest = attempt
            if task.state is TaskState.RUNNING:
                model.counting = None
        return which, attempt

    @rule(attempt=attempts)
    def stage(self, attempt: tuple[str, Attempt]) -> None:
        which, log = attempt
        write = f"w{next(self.names)}"
        log.reads.append(Read(write, (), b""))
        log.staged.append(Staged(write, ()))
        model = self.models[which]
        if log is not model.newest or model.drifted:
            model.dead.add(write)  # code that outlived its execution

    @rule(attempt=attempts)
    def finish(self, attempt: tuple[str, Attempt]) -> None:
        which, log = attempt
        task, model = self.tasks[which], self.models[which]
        if task.state not in (TaskState.DRIFTED, TaskState.ASKED):
            newest = task.attempt
            effect = self.on(task, lambda: task.finish(log.mark, "path"), TaskState.FINISHED)
            if TaskState.FINISHED not in _ALLOWED[task.state]:
                return
            assert (effect is not None) == (log is newest)
            model.counting = [write.sql for write in log.staged] if log is newest else None
            if log is not newest:
                if model.newest is not None:
                    model.dead.update(write.sql for write in model.newest.staged)
                model.newest = None
        else:
            self.on(task, lambda: task.finish(log.mark, "path"), TaskState.FINISHED)

    @rule(which=st.sampled_from(IDS))
    def ask(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        if task.attempt is None:
            assert task.ask("path") is None
            return
        state = task.state
        effect = self.on(task, lambda: task.ask("path"), TaskState.ASKED)
        if TaskState.ASKED in _ALLOWED[state]:
            assert effect is not None
            assert effect.asked
            assert effect.staged == []  # what an interrupted task staged is part of nothing
            model.counting = None

    @rule(which=st.sampled_from(IDS))
    def fail(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        state = task.state
        self.on(task, task.fail, TaskState.FAILED)
        if TaskState.FAILED in _ALLOWED[state]:
            self.bury(model)
            model.asked_before = False

    @rule(which=st.sampled_from(IDS))
    def drift(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        changed = task.facts_changed
        assert task.drift() == model.asked_before
        assert task.facts_changed == (changed or model.asked_before)
        self.bury(model)
        model.asked_before, model.drifted = False, True

    @staticmethod
    def bury(model: Model) -> None:
        model.dead.update(model.counting or ())
        if model.newest is not None:
            model.dead.update(write.sql for write in model.newest.staged)
        model.counting = model.newest = None

    @invariant()
    def only_the_result_that_counts_is_kept(self) -> None:
        for which, task in self.tasks.items():
            model = self.models[which]
            kept = [write.sql for write in task.effect.staged] if task.effect is not None else []
            assert kept == (model.counting or [])
            assert not model.dead & set(kept)

    @invariant()
    def what_counts_is_validated(self) -> None:
        for task in self.tasks.values():
            checked = {read.sql for reads in task.logs() for read in reads}
            if task.effect is not None and (task.attempt is None or task.state is TaskState.FINISHED):
                assert {read.sql for read in task.effect.reads} <= checked
            if task.shown is not None:
                assert {read.sql for read in task.shown.reads} <= checked
            if task.state in (TaskState.DRIFTED, TaskState.FAILED):
                assert not checked
                assert not task.took_part

    @invariant()
    def only_finished_and_hypotheses_have_an_effect(self) -> None:
        for task in self.tasks.values():
            assert task.effect is None or task.state in (TaskState.FINISHED, TaskState.HYPOTHESIS)
            assert task.state is not TaskState.HYPOTHESIS or task.effect is not None


TestTaskMachine = TaskMachine.TestCase
TestTaskMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("state", list(TaskState))
def test_every_state_can_drift_and_a_drifted_task_stays_drifted(state: TaskState) -> None:
    assert TaskState.DRIFTED in _ALLOWED[state]
    assert _ALLOWED[TaskState.DRIFTED] == {TaskState.DRIFTED}


def test_what_is_illegal_is_told_with_the_task_and_both_states() -> None:
    task = Task("id-1", "plan")
    task.drift()
    with pytest.raises(IllegalTransition, match="Task id-1 of node 'plan' is drifted and cannot become finished"):
        task.finish(None, "path")


def test_an_execution_beside_a_hypothesis_takes_its_place_only_when_it_has_ended() -> None:
    task = Task("t")
    task.load(Effect("t", "node", staged=[Staged("saved", ())]))
    attempt = task.begin("node", 1, {})
    attempt.staged.append(Staged("new", ()))
    assert task.effect is not None
    assert [write.sql for write in task.effect.staged] == ["saved"]
    task.finish(attempt.mark, "path")
    assert [write.sql for write in task.effect.staged] == ["new"]
