"""What a super-step needs of the run it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.costs import Costs
    from superstep.checkpointer.step.read_set import Read, Staged
    from superstep.checkpointer.step.snapshot import Snapshot
    from superstep.checkpointer.step.task import Task
    from superstep.checkpointer.turns import Holder, Turns

__all__ = ["Caller", "CallerStep", "Owner", "Withdrawal"]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Results to take back, durably.

    Attributes:
        ns: namespace of the super-step.
        checkpoint_id: the checkpoint it started from.
        tasks: all drifted tasks of the super-step, id to node.
        asked: those that had asked a human: their answers are taken back as well.
        costs: attempts, repairs, drifts and reused answers of the super-step so far, kept with the withdrawal so that
            its next attempt counts on.
        ms: milliseconds of all its attempts, this one included.
        leading: tasks that come before the others in its next attempt, see `SuperStep.leading`.
    """

    ns: str
    checkpoint_id: str
    tasks: Mapping[str, str]
    asked: Sequence[str]
    costs: Costs
    ms: float
    leading: Collection[str] = ()


class CallerStep(Protocol):
    """The super-step of a caller, as a super-step below it sees it.

    Attributes:
        ns: the namespace.
        checkpoint_id: the checkpoint that it started from.
        leading: ids of its tasks that come before the others.
    """

    ns: str
    checkpoint_id: str
    leading: set[str]

    @property
    def snapshot(self) -> Snapshot:
        """The transaction that its reads see."""

    def view_of(self, task: Task) -> Sequence[Staged]:
        """The staged writes that reads of the task were made on top of."""

    def contended(self, moved: Iterable[tuple[Task, Read]]) -> None:
        """Reads of these tasks have moved, as far as they are its own."""

    async def drift(self, moved: Iterable[Task], conn: Connection) -> None:
        """These tasks of it must run again. On a connection that is in no transaction."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A task in which a graph runs as a subgraph, be it as a node, in a tool or in a `@task`."""

    step: CallerStep
    task: Task


class Owner(Protocol):
    """A run, as its super-steps see it."""

    @property
    def thread_id(self) -> str:
        """The thread."""

    @property
    def database(self) -> Database:
        """Where the thread is."""

    @property
    def serde(self) -> SerializerProtocol:
        """The saver's serializer."""

    @property
    def turns(self) -> Turns:
        """Of the saver."""

    @property
    def takes_turns(self) -> bool:
        """Whether it says when it is over, so that no turn is kept for nothing."""

    @property
    def trial_of(self) -> str | None:
        """The thread that it decides again, to find out what would be decided: no effect may come of that."""

    @property
    def effects(self) -> str | None:
        """What becomes of effects that were sent already, see `keys.RunOptions`."""

    @property
    def holder(self) -> Holder:
        """The run as one that takes turns."""

    async def name_of_line(self, question: bytes) -> bytes:
        """Where turns on what a read asks are waited for: the same name in every process."""

    def name_of_key(self, question: bytes) -> str:
        """What a question is called among what is measured: the same in every process."""

    async def begun(self, ns: str, checkpoint_id: str) -> None:
        """Wait until the checkpoint that a super-step started from is committed, and those of its callers."""

    def callers(self, ns: str) -> Sequence[Caller]:
        """The tasks in which a graph runs, those that its callers run in included, as far as they used their step."""

    def earlier(self) -> Iterable[tuple[Task, Sequence[Read], Sequence[Staged]]]:
        """What super-steps before this one rest on that its commit has to validate too, see `replay.Log`."""

    async def rewind(self, moved: Sequence[Task], conn: Connection) -> None:
        """If some of these tasks are of earlier super-steps: have those run again, and raise.

        On a connection that is in no transaction.

        Raises:
            Drift: the thread goes on from the first of them.
            PlanInvalidated: it cannot, for domain writes have been committed since.
        """

    async def take_back(self, what: Withdrawal, conn: Connection) -> None:
        """Discard results on this very connection.

        Raises:
            StaleRun: the run does not own the thread any more.
        """
