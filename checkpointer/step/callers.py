"""A task answers for its callers: the facts of the tasks in which a super-step's graph runs as a subgraph.

A nested super-step commits by itself, before its callers. What it writes rests on what they have read so far, so its
commit validates that too. If a caller's facts have moved, the commit is refused and the conflict is the caller's.

A task reads a balance, and the agent that it calls draws on it: that is no change of the task's fact from outside. So
what callers' reads say in the nested transaction, once its writes are applied, is what the callers' own commits will
compare with.

What a subgraph commits is before all of the super-steps around it. So a caller whose subgraph commits writes comes
before its siblings in the order of its super-step (it leads). A caller that runs after a sibling, on top of what that
one has staged, has read what is not committed, and may never be, for the sibling may drift. A commit of writes cannot
rest on that: it is refused, and the caller runs again, leading.

A caller may never end: its process dies, it fails, it is cancelled. The next run starts it anew, and its subgraph goes
on from what is committed. So what that rests on is stored with the nested commit, and must hold then.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING

from superstep.checkpointer.step.after_writes import answers_after_writes
from superstep.checkpointer.step.drift import Drift
from superstep.checkpointer.step.order import still_holds
from superstep.checkpointer.step.read_set import Effect, Read
from superstep.checkpointer.step.task import TaskState
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.ports import Caller, Owner
    from superstep.checkpointer.step.read_set import Staged
    from superstep.checkpointer.step.snapshot import Snapshot
    from superstep.checkpointer.step.task import Task

    Moved = Iterable[tuple[list[Read], int, Read]]

__all__ = ["Callers"]


class Callers:
    """The tasks around a super-step of namespace `ns`, as far as they used their steps."""

    def __init__(self, owner: Owner, ns: str) -> None:
        self._owner = owner
        self._ns = ns

    def all(self) -> Sequence[Caller]:
        """With the super-step of each; none around the outermost graph."""
        return self._owner.callers(self._ns) if self._ns else ()

    def log(self) -> Iterator[tuple[Task, list[Read], Sequence[Staged]]]:
        """What they have read so far, what a human was shown included."""
        for caller in self.all():
            for reads in caller.task.logs():
                yield caller.task, reads, caller.step.view_of(caller.task)

    @property
    def have_read(self) -> bool:
        """Whether there is anything in the log."""
        return bool(self._ns) and any(reads for _, reads, _ in self.log())

    def drifted(self) -> list[Task]:
        """Those whose facts have changed."""
        if not self._ns:
            return []
        return [caller.task for caller in self.all() if caller.task.state is TaskState.DRIFTED]

    def refuse_drifted(self, attempts: int) -> None:
        """Raise `Drift` if one has drifted: the conflict is that task's."""
        if self._ns and (names := sorted({task.node for task in self.drifted()})):
            raise Drift(
                f"Facts that {', '.join(names)} had read in thread {self._owner.thread_id!r} changed before a subgraph "
                f"called there could commit. The subgraph's super-step was not written; only {', '.join(names)} runs "
                f"again when the thread is run with input None (transactional(graph) does that).",
                tasks=names,
                attempts=attempts,
            )

    async def on_uncommitted(self, snapshot: Snapshot, conn: Connection) -> list[Task]:
        """Those that have read what only a sibling's staged writes say, which are not committed yet.

        What reads on top of such writes say without them as well was read on what is committed, and is noted as that.
        """
        resting = []
        for caller in self.all():
            found = [(log, n, read) for log in caller.task.logs() for n, read in enumerate(log) if read.after]
            answers = [await snapshot.ask(read.sql, read.args) for _, _, read in found]
            said = zip(found, answers, strict=True)
            if not all([await still_holds(conn, read, answer) for (_, _, read), answer in said]):
                resting.append(caller.task)
            elif found and caller.task.attempt is not None:
                caller.task.attempt.view = ()
                for log, n, read in found:
                    log[n] = replace(read, after=False)
        return resting

    async def must_lead(self, tasks: Collection[Task], conn: Connection, attempts: int) -> None:
        """Let these callers run again, before their siblings: their subgraph is about to commit writes.

        On a connection that is in no transaction.

        Raises:
            Drift: always, unless one of them does so already.
            ConfigError: then it is a sibling that leads too on whose writes it rests.
        """
        for caller in [caller for caller in self.all() if caller.task in tasks]:
            if caller.task.id in caller.step.leading:
                raise ConfigError(
                    f"In thread {self._owner.thread_id!r}, {caller.task.node!r} has read what another task of its own "
                    f"super-step stages, and both call subgraphs that commit writes. Neither can come first, so this "
                    f"subgraph was not written. Put {caller.task.node!r} into a super-step of its own (by an edge from "
                    f"the other task), or see docs/hot-rows.md for reads that do not conflict."
                )
            caller.step.leading.add(caller.task.id)
        await self.drift(tasks, conn)
        self.refuse_drifted(attempts)

    def lead(self) -> None:
        """This super-step has committed writes: its callers come before their siblings."""
        for caller in self.all():
            caller.step.leading.add(caller.task.id)

    async def drift(self, moved: Collection[Task], conn: Connection) -> None:
        """Let those among these tasks run again. On a connection that is in no transaction."""
        for caller in [caller for caller in self.all() if caller.task in moved]:
            await caller.step.drift([caller.task], conn)

    async def after_writes(self, conn: Connection) -> Moved:
        """What their reads say now that this super-step's writes are applied in its transaction.

        Returns:
            Per read: the log it stands in, its place there, and the read with its new digest. For `move_on`. Those that
            were made on top of siblings' writes are left as they are: these writes are not applied here.
        """
        asked = [(reads, n) for _, reads, _ in self.log() for n, read in enumerate(reads) if not read.after]
        answers = await answers_after_writes(conn, [reads[n] for reads, n in asked], self._owner.database.apart)
        said = zip(asked, answers, strict=True)
        return [(reads, n, replace(reads[n], digest=answer.digest)) for (reads, n), answer in said]

    def to_note(self, moved: Moved = ()) -> list[tuple[Caller, Effect]]:
        """What is to be stored with a commit of this super-step, by caller: what it rests on and is not stored yet.

        `moved` is what reads say once the commit's writes are applied.
        """
        now = {(id(reads), place): read for reads, place, read in moved}
        found = []
        for caller in self.all():
            task = caller.task
            reads = [now.get((id(log), n), read) for log in task.logs() for n, read in enumerate(log)]
            stored = len(reads) == len(task.noted) and all(map(operator.is_, reads, task.noted))
            if task.attempt is None or not reads or stored:
                continue
            asked = task.shown is not None
            effect = Effect(task.id, task.node, reads, path=task.attempt.path, asked=asked, calls=not asked)
            found.append((caller, effect))
        return found

    async def move_on(self, moved: Moved) -> None:
        """This super-step is committed: its callers go on in a snapshot that has its writes.

        Call without any lock: it waits for reads of the callers that are under way.
        """
        for reads, place, read in moved:
            reads[place] = read
        for caller in self.all():
            await caller.step.snapshot.release()
