"""Whether facts of an earlier super-step still stand, asked on behalf of a task that goes on from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import is_lost, is_serialization_failure, is_short_of_locks
from superstep.checkpointer.database.retry import retry
from superstep.checkpointer.step.drift import in_the_way
from superstep.checkpointer.step.task import Task
from superstep.runtime.faults import ReadFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.read_set import Read
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["facts_stand"]

_TRIES = 8


async def facts_stand(step: SuperStep, attempt: Attempt, facts: Sequence[Read]) -> bool:
    """Whether all of these say what they said, in the snapshot of the step. They are facts of the task from here on.

    One round trip if they stand. If they do not, each is read as it is now: that it has moved is what the task rests
    on, so it runs again if that has changed when the super-step commits.

    What tasks of the same super-step before this one stage is not asked: they go on from the same facts, and their
    writes are the flow's own. What the facts say on top of those writes is what this task's commit compares with.

    Raises:
        Drift: the task's own facts have changed.
    """
    facts = list({(read.key, read.digest): read for read in facts}.values())
    if not facts:
        return True
    step.check(attempt)
    before_siblings = bool(step.sees_writes_before(attempt))
    stand = await _stand_together(step, attempt, facts, note=not before_siblings)
    if stand and not before_siblings:
        return True
    for fact in facts:
        before = len(attempt.reads)
        try:
            await step.read(attempt, fact.sql, fact.args)
        except ReadFailed:  # it is a fact, as rows are
            if len(attempt.reads) == before:
                raise
    return stand


async def _stand_together(step: SuperStep, attempt: Attempt, facts: Sequence[Read], *, note: bool) -> bool:
    of_the_plan = Task(attempt.task_id, attempt.node)

    async def once() -> bool:
        step.check(attempt)
        await step.pin([fact.sql for fact in facts])
        step.check(attempt)
        return not await step.snapshot.replay.run(step.snapshot, [(of_the_plan, facts, ())])

    async def failed(error: Exception, left: int) -> None:
        again = is_serialization_failure(error) or is_lost(error, step.snapshot.conn) or is_short_of_locks(error)
        if not again:
            raise error
        if not left:
            raise in_the_way(attempt.node, step.costs.attempts) from error
        await step.snapshot.lost(error)

    await step.begun()
    async with step.snapshot.lock:
        try:
            stand = await retry(once, failed, tries=_TRIES, outage=step.owner.database.outage)
            if stand and note:
                attempt.reads.extend(facts)
        finally:
            await step.rest(facts[-1].sql)
    return stand
