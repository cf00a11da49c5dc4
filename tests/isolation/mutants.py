"""Switches: each takes a part of the commit protocol out of the process. For tests of the tests only."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.checkpointer.commit import barrier, staged_writes
from superstep.checkpointer.database.errors import is_serialization_failure
from superstep.checkpointer.step import callers, protection, replay, snapshot
from superstep.checkpointer.step.drift import Drift
from superstep.checkpointer.threads import run
from superstep.runtime.faults import StaleRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A switch.

    Attributes:
        turn: switches it off.
        shape: of the histories that show it.
        hold_idle: of the saver.
        told: what a run ends with, if the rest of the protocol notices by itself.
        together: commits share transactions, as if they kept meeting.
    """

    turn: Callable[[pytest.MonkeyPatch], None]
    shape: str
    hold_idle: float = 0.0
    told: type[Exception] | tuple[()] = ()
    together: bool = False


def _no_validation(patch: pytest.MonkeyPatch) -> None:
    async def holds(*_: Any) -> bool:
        return True

    patch.setattr(replay, "still_holds", holds)


def _no_serializable_transactions(patch: pytest.MonkeyPatch) -> None:
    for name in ("OPEN", "BARE"):
        patch.setattr(protection, name, getattr(protection, name).replace("SERIALIZABLE", "READ COMMITTED"))


def _siblings_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    async def moved(*_: Any) -> bool:
        return False

    patch.setattr(staged_writes, "_moved_by_siblings", moved)


def _callers_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(callers.Callers, "log", lambda _: iter(()))


def _what_a_subgraph_was_called_on_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(callers.Callers, "to_note", lambda *_: [])


def _nobody_waits_for_stores_below(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def nothing(*_: Any) -> Iterator[None]:
        yield

    patch.setattr(run.Run, "stores_below", nothing)
    patch.setattr(callers.Callers, "refuse_drifted", lambda *_: None)


def _writes_of_one_task_are_left_out(patch: pytest.MonkeyPatch) -> None:
    whole = barrier.apply_staged

    async def part(conn: Any, step: Any, effects: Any) -> None:
        await whole(conn, step, effects[:1])

    patch.setattr(barrier, "apply_staged", part)


def _writes_are_applied_twice(patch: pytest.MonkeyPatch) -> None:
    once = barrier.apply_staged

    async def twice(conn: Any, step: Any, effects: Any) -> None:
        await once(conn, step, effects)
        await once(conn, step, [effect for effect in effects if not any("INSERT" in s.sql for s in effect.staged)])

    patch.setattr(barrier, "apply_staged", twice)


def _drifted_tasks_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(barrier.Barrier, "_refuse_drift", lambda *_: None)


def _a_failed_commit_counts(patch: pytest.MonkeyPatch) -> None:
    finish = barrier.Barrier._finish

    async def hopeful(self: Any, step: Any, effects: Any, turn: Any) -> None:
        try:
            await finish(self, step, effects, turn)
        except Exception as e:
            if not is_serialization_failure(e):
                raise
            await step.snapshot.lost(e)

    patch.setattr(barrier.Barrier, "_finish", hopeful)


def _those_before_in_a_transaction_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    run = replay.Replay.run

    async def blind(self: Any, transaction: Any, log: Any) -> Any:
        return [] if transaction.members > 1 else await run(self, transaction, log)

    patch.setattr(replay.Replay, "run", blind)


def _one_that_is_rejected_leaves_its_writes_to_those_before_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshot, "ROLLED_BACK", "COMMIT")
    applied = barrier.apply_staged
    chance = itertools.cycle((False, False, True))

    async def rejected(conn: Any, step: Any, effects: Any) -> None:
        await applied(conn, step, effects)
        if step.snapshot.members > 1 and step.tasks.have_writes and next(chance):
            await step.reject_all([effect for effect in effects if effect.staged])
            step.callers.refuse_drifted(1)
            raise Drift("planted", tasks=[], attempts=1)

    patch.setattr(barrier, "apply_staged", rejected)


MUTANTS = {
    "reads are not validated": Mutant(_no_validation, "one task"),
    "reads are not validated beside programs": Mutant(_no_validation, "programs beside"),
    "transactions are not serializable": Mutant(_no_serializable_transactions, "one task", 0.25),
    "siblings are not looked at": Mutant(_siblings_are_not_looked_at, "siblings"),
    "callers are not asked": Mutant(_callers_are_not_asked, "nested"),
    "what a subgraph was called on is not kept": Mutant(_what_a_subgraph_was_called_on_is_not_kept, "nested"),
    "nobody waits for commits below": Mutant(_nobody_waits_for_stores_below, "nested beside siblings"),
    "writes of one task are left out": Mutant(_writes_of_one_task_are_left_out, "siblings"),
    "writes are applied twice": Mutant(_writes_are_applied_twice, "one task"),
    "drifted tasks commit": Mutant(_drifted_tasks_commit, "one task"),
    "a failed COMMIT counts": Mutant(_a_failed_commit_counts, "one task", 0.25, told=StaleRun),
    "those before in a transaction are not looked at": Mutant(
        _those_before_in_a_transaction_are_not_looked_at, "one task", together=True
    ),
    "one that is rejected leaves its writes to those before it": Mutant(
        _one_that_is_rejected_leaves_its_writes_to_those_before_it, "one task", together=True
    ),
}
