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
from superstep.checkpointer.step.task import Attempt, Task, TaskState
from superstep.runtime.faults import IllegalTransition

IDS = ["a", "b"]

# What may follow what, from the diagram in `task`. KNOWN, RUNNING, …: the names of the states.
LEGAL = {
    TaskState[before]: {TaskState[after] for after in afters.split()}
    for before, afters in {
        "KNOWN": "KNOWN RUNNING FINISHED FAILED HYPOTHESIS DRIFTED",
        "RUNNING": "RUNNING FINISHED ASKED FAILED DRIFTED",
        "FINISHED": "FINISHED RUNNING FAILED DRIFTED",
        "ASKED": "ASKED RUNNING FAILED DRIFTED",
        "FAILED": "FAILED RUNNING DRIFTED",
        "HYPOTHESIS": "HYPOTHESIS FINISHED ASKED FAILED DRIFTED",
        "DRIFTED": "DRIFTED",
    }.items()
}


@dataclass
class Model:
    """What ought to be known of one task: which writes may be applied, and whether it may still change."""

    drifted: bool = False
    counting: list[str] | None = None  # writes of the result that counts
    newest: Attempt | None = None
    ended: TaskState | None = None  # how the newest execution was handed in, FINISHED or ASKED
    shown: list[str] = field(default_factory=list)  # reads that a human was shown before
    dead: set[str] = field(default_factory=set)  # writes that must never be applied from now on


class TaskMachine(RuleBasedStateMachine):
    """Random events, legal and illegal, on two tasks of one super-step."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.tasks = {each: Task(each) for each in IDS}
        self.models = {each: Model() for each in IDS}
        self.names = count()
        self.begun: list[tuple[str, Attempt]] = []

    def on(self, task: Task, event: Any, *targets: TaskState) -> Any:
        """Let an event happen. If none of its target states may follow, it must raise and change nothing."""
        before = (task.state, task.attempt, task.effect, task.shown, task.withdrawn)
        if not LEGAL[task.state] & set(targets):
            with pytest.raises(IllegalTransition):
                event()
            assert (task.state, task.attempt, task.effect, task.shown, task.withdrawn) == before
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
            model.shown = [write]
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
            model.newest, model.ended = attempt, None
            if task.state is TaskState.RUNNING:
                model.counting = None
        self.begun.append((which, attempt))
        return which, attempt

    @rule(attempt=attempts)
    def use(self, attempt: tuple[str, Attempt]) -> None:
        attempt[1].marked = True

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
            if TaskState.FINISHED not in LEGAL[task.state]:
                return
            assert (effect is not None) == (log is newest)
            model.ended = TaskState.FINISHED
            model.counting = [write.sql for write in log.staged] if log is newest else None
            if log is not newest:
                if model.newest is not None:
                    model.dead.update(write.sql for write in model.newest.staged)
                model.newest = None
        else:
            self.on(task, lambda: task.finish(log.mark, "path"), TaskState.FINISHED)

    @rule(which=st.sampled_from(IDS), executions=st.integers(1, 2))
    def adopt(self, which: str, executions: int) -> None:
        task, model = self.tasks[which], self.models[which]
        left = [Attempt(f"inner {n}", f"inner {n}", 1) for n in range(executions)]
        for attempt in left:
            write = f"w{next(self.names)}"
            attempt.reads.append(Read(write, (), b""))
            attempt.staged.append(Staged(write, ()))
        if self.on(task, lambda: task.adopt(left, "path"), TaskState.FINISHED) is not None:
            model.ended = TaskState.FINISHED
            model.counting = [*(model.counting or ()), *(each.staged[0].sql for each in left)]
        else:
            model.dead.update(each.staged[0].sql for each in left)

    @rule(which=st.sampled_from(IDS))
    def ask(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        if task.attempt is None:
            assert task.ask("path") is None
            return
        state = task.state
        effect = self.on(task, lambda: task.ask("path"), TaskState.ASKED)
        if TaskState.ASKED in LEGAL[state]:
            model.ended = TaskState.ASKED
            assert effect is not None
            assert effect.asked
            assert effect.staged == []  # what an interrupted task staged is part of nothing
            model.counting = None

    @rule(which=st.sampled_from(IDS))
    def fail(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        state = task.state
        self.on(task, task.fail, TaskState.FAILED)
        if TaskState.FAILED in LEGAL[state]:
            self.bury(model)
            model.shown = []

    @rule(which=st.sampled_from(IDS))
    def drift(self, which: str) -> None:
        task, model = self.tasks[which], self.models[which]
        withdrawn = task.withdrawn
        asked = bool(model.shown)
        assert task.drift() == asked
        assert task.withdrawn == withdrawn + asked
        self.bury(model)
        model.shown, model.drifted = [], True

    @staticmethod
    def bury(model: Model) -> None:
        model.dead.update(model.counting or ())
        if model.newest is not None:
            model.dead.update(write.sql for write in model.newest.staged)
        model.counting = model.newest = model.ended = None

    @invariant()
    def only_the_result_that_counts_is_kept(self) -> None:
        for which, task in self.tasks.items():
            model = self.models[which]
            kept = [write.sql for write in task.effect.staged] if task.effect is not None else []
            assert kept == (model.counting or [])
            assert not model.dead & set(kept)

    @invariant()
    def an_execution_is_known_by_its_mark_while_it_may_count(self) -> None:
        for which, attempt in self.begun:
            for each, task in self.tasks.items():
                assert task.knows(attempt.mark) == (each == which and attempt is self.models[each].newest)

    @invariant()
    def an_execution_that_used_its_step_is_awaited_until_it_is_handed_in(self) -> None:
        for which, task in self.tasks.items():
            model = self.models[which]
            assert task.awaited == (model.newest is not None and model.newest.marked and model.ended is None)

    @invariant()
    def what_counts_is_validated(self) -> None:
        for which, task in self.tasks.items():
            model = self.models[which]
            checked = {read.sql for reads in task.logs() for read in reads}
            # Each write here goes with a read of the same name. A hypothesis whose task runs again is not rested on.
            rested = set(model.counting or ())
            if model.newest is not None and model.ended is not TaskState.FINISHED:
                rested = {read.sql for read in model.newest.reads}
            assert checked == {*model.shown, *rested}
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


@pytest.mark.parametrize("after", TaskState)
@pytest.mark.parametrize("before", TaskState)
def test_nothing_follows_but_what_is_legal(before: TaskState, after: TaskState) -> None:
    task = Task("t", state=before)
    if after in LEGAL[before]:
        task._become(after)
        assert task.state is after
    else:
        with pytest.raises(IllegalTransition):
            task._become(after)
        assert task.state is before


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


def test_the_result_of_a_task_rests_on_what_it_adopts_too() -> None:
    task = Task("t")
    own = task.begin("outer", 1, {})
    own.reads.append(Read("r0", (), b""))
    own.staged.append(Staged("w0", ()))
    own.uses.append("plan@1")
    task.finish(own.mark, "path")
    left = [Attempt("i", "inner", 1, reads=[Read("r1", (), b"")], staged=[Staged("w1", ())], uses=["plan@1", "do@2"])]
    effect = task.adopt(left, "elsewhere")
    assert effect is task.effect
    assert (effect.task_id, effect.node, effect.path) == ("t", "outer", "path")
    assert [read.sql for read in effect.reads] == ["r0", "r1"]
    assert [write.sql for write in effect.staged] == ["w0", "w1"]
    assert effect.uses == ["plan@1", "do@2"]


def test_a_task_without_a_log_of_its_own_is_known_by_the_node_it_adopts() -> None:
    task = Task("t")
    effect = task.adopt([Attempt("i", "inner", 1, staged=[Staged("w", ())])], "path")
    assert (effect.task_id, effect.node, effect.path, task.state) == ("t", "inner", "path", TaskState.FINISHED)
