"""A run: one owner of one thread, from loading it to its last commit.

What it owns the thread with is its fencing token, see `ownership`. Its graphs are `Namespace`s, its open super-steps
`SuperStep`s, the results on their way to the database `PendingWrites`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from superstep.checkpointer.langgraph.encryption import key_name, keyed
from superstep.checkpointer.langgraph.keys import RunOptions
from superstep.checkpointer.langgraph.questions import masked
from superstep.checkpointer.step.drift import withdrawn_question
from superstep.checkpointer.step.in_flight import InFlight
from superstep.checkpointer.step.ports import Caller
from superstep.checkpointer.step.superstep import SuperStep
from superstep.checkpointer.threads.digest_key import digest_key, known_digest_key
from superstep.checkpointer.threads.discard import discard
from superstep.checkpointer.threads.namespace import Namespace
from superstep.checkpointer.threads.ownership import no_barrier, shared_subgraph, stale
from superstep.checkpointer.threads.pending_writes import PendingWrites
from superstep.checkpointer.threads.provenance import Provenance
from superstep.checkpointer.threads.rewind import rewind
from superstep.checkpointer.turns import Holder, Turns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import Any

    from langgraph.checkpoint.base import Checkpoint
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.types import Interrupt

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.costs import Costs
    from superstep.checkpointer.step.drift import Drift
    from superstep.checkpointer.step.ports import Withdrawal
    from superstep.checkpointer.step.read_set import Effect, Read, Staged
    from superstep.checkpointer.step.task import Task
    from superstep.runtime.faults import RuntimeFault, StaleRun

__all__ = ["Run"]


class Run:
    """See the module. Lives on the saver's event loop. To its super-steps it is their `Owner`.

    Attributes:
        database: where the thread is.
        key: identifies the run, see `keys.run_key`.
        thread_id: the thread.
        token: the fencing token this run was given; `None` for a caller that is no run.
        head: the root checkpoint the run believes to be the thread's latest.
        options: what its caller has set.
        serde: the saver's serializer.
        turns: the saver's.
        in_flight: calls of models by the saver's runs.
        holder: the run as one that takes them.
        moved: the run has stored a root checkpoint of its own.
        commits: super-steps it has committed.
        namespaces: by name, the graph "" and its subgraphs.
        steps: open super-steps, by namespace and the checkpoint they started from.
        writes: results that are not stored yet.
        provenance: what its committed results rest on.
        renamed: questions that this run has asked under another name than LangGraph's.
        spent: names of questions that were open when it began, and whose answers have been taken, or taken back.
        has_shown_facts: a question that was open when it began rests on reads.
        answers_used: in a trial, by request, how many answers of the thread that is decided again were given.
        poison: why no commit of this run may happen any more.
    """

    def __init__(
        self,
        database: Database,
        key: object,
        thread_id: str,
        *,
        token: int | None,
        head: str | None,
        options: RunOptions,
        serde: SerializerProtocol,
        turns: Turns | None = None,
        in_flight: InFlight | None = None,
        holder: Holder | None = None,
    ) -> None:
        self.database = database
        self.key = key
        self.thread_id = thread_id
        self.token = token
        self.head = head
        self.options = options
        self.serde = serde
        self.turns = turns or Turns(database)
        self.in_flight = in_flight or InFlight()
        self.holder = holder or Holder()
        self.moved = False
        self.commits = 0
        self.namespaces: defaultdict[str, Namespace] = defaultdict(Namespace)
        self.steps: dict[tuple[str, str], SuperStep] = {}
        self._running: dict[tuple[str, str], asyncio.Task[Any] | None] = {}  # by task id and the subgraph it runs
        self._below: dict[asyncio.Future[None], str] = {}  # what is being stored, with its namespace
        self.writes = PendingWrites(database, thread_id, token)
        self.provenance = Provenance(self)
        self.renamed: dict[str, str] = {}
        self.spent: set[str] = set()
        self.has_shown_facts = False
        self.answers_used: Counter[bytes] = Counter()
        self.poison: RuntimeFault | None = None

    @classmethod
    def outside(cls, database: Database, thread_id: str, serde: SerializerProtocol) -> Run:
        """For a caller that is no run (a test, a script, update_state): it stores without owning the thread."""
        return cls(database, object(), thread_id, token=None, head=None, options=RunOptions(), serde=serde)

    def stale(self) -> StaleRun:
        """The error for a run that lost its thread."""
        return stale(self.thread_id)

    def has_loaded(self, ns: str) -> bool:
        """Whether LangGraph loaded this graph for the run, so that its super-steps have barriers."""
        return ns in self.namespaces and self.namespaces[ns].loaded

    def saves_at_exit(self, ns: str) -> bool:
        """Whether this graph, or one around it, is saved when it ends and not before (durability "exit")."""
        around = {"", *_prefixes(ns)} & self.namespaces.keys()
        return any(self.namespaces[each].at_exit for each in around)

    def refuse_exit(self, ns: str) -> None:
        """Raise `ConfigError` if this graph, or one around it, is saved only when it ends."""
        if self.saves_at_exit(ns):
            raise no_barrier(self.thread_id)

    def is_entered(self, ns: str, invocation: object) -> bool:
        """Whether this very invocation of the graph has loaded it already."""
        return ns in self.namespaces and self.namespaces[ns].invocation is invocation

    def enter(self, ns: str, task_id: str | None, runner: asyncio.Task[Any] | None) -> None:
        """A task, or nobody for the outermost graph, starts to run a graph, in `runner` if that is known.

        A subgraph with `checkpointer=True` has one history for all its calls. Two calls at the same time have the same
        checkpoints and task ids, so nothing tells what the one has read and staged from what the other has.

        Raises:
            ConfigError: another task runs it, and code in it has used its step.
        """
        others = [
            each
            for (each, running), its in self._running.items()
            if running == ns and each != task_id and not (its is not None and its.done())
        ]
        if others:
            self.namespaces[ns].shared = True
            below = (step for (at, _), step in self.steps.items() if at == ns or at.startswith(f"{ns}|"))
            if any(step.tasks.are_in_use for step in below):
                raise shared_subgraph(self.thread_id, ns)
        if task_id is not None and f":{task_id}" not in ns:  # else nobody else can run it
            self._running[task_id, ns] = runner

    def handed_in(self, task_id: str) -> None:
        """The task has ended, and every graph that it ran with it."""
        for key in [key for key in self._running if key[0] == task_id]:
            del self._running[key]

    def refuse_shared(self, ns: str) -> None:
        """Raise `ConfigError` if several tasks are running this graph, or one around it, at the same time."""
        for prefix in _prefixes(ns):
            if prefix in self.namespaces and self.namespaces[prefix].shared:
                raise shared_subgraph(self.thread_id, prefix)

    def ran(self, ns: str, parent_id: str | None, checkpoint: Checkpoint) -> list[str]:
        """Names of the nodes whose super-step this checkpoint ends."""
        step = self.steps.get((ns, parent_id or ""))
        names = self.namespaces[ns].advance(checkpoint)
        return sorted(names | (step.tasks.node_names if step is not None else set()))

    async def committed(self, ns: str, checkpoint_id: str) -> None:
        """Wait until the checkpoint is committed; fail as the commit does. See `Namespace`."""
        await self.namespaces[ns].committed(checkpoint_id)

    async def begun(self, ns: str, checkpoint_id: str) -> None:
        """Wait until a super-step has begun for good: what it started from is committed, and so for those around it."""
        await self.begun_above(ns)
        await self.committed(ns, checkpoint_id)

    async def begun_above(self, ns: str) -> None:
        """Wait until the super-steps that a graph is called from have begun for good; fail as their predecessors do.

        A nested super-step commits by itself, before its callers. What stands in front of them must be committed then,
        or it could fail when the nested writes are there already.
        """
        for above, checkpoint_id in self.namespaces[ns].above.items():
            if self.has_loaded(above) and not self.saves_at_exit(above):  # saved after what is nested in it, if ever
                await self.committed(above, checkpoint_id)

    def arrived(self, ns: str, checkpoint_id: str) -> None:
        """The checkpoint is committed."""
        self.namespaces[ns].arrived(checkpoint_id)
        if ns == "":
            self.head = checkpoint_id
            self.moved = True

    def step(self, ns: str, checkpoint_id: str) -> SuperStep:
        """The super-step that started from this checkpoint."""
        key = (ns, checkpoint_id)
        if key not in self.steps:
            self.steps[key] = SuperStep(self, ns, checkpoint_id)
        return self.steps[key]

    def hypothesize(
        self,
        ns: str,
        checkpoint_id: str,
        effects: Iterable[Effect],
        costs: Costs | None,
        asked_again: Iterable[str],
        leading: Iterable[str],
        answered: Collection[str],
    ) -> None:
        """Saved results were loaded with the checkpoint: they count only if what they rest on still holds.

        So do the answers that a human has given to tasks.
        """
        kept = [e for e in effects if not (e.asked and self.options.accept_stale_answers)]
        self.has_shown_facts = self.has_shown_facts or any(e.asked for e in kept)
        if kept or costs is not None:
            answered = () if self.options.accept_stale_answers else answered
            self.step(ns, checkpoint_id).load(kept, costs, asked_again, leading, answered)

    def callers(self, ns: str) -> list[Caller]:
        """The tasks in which a graph runs. See `Owner.callers`."""
        ids = self.caller_ids(ns)
        return [
            Caller(step, step.tasks[task_id])
            for step in self.steps.values()
            if step.ns != ns
            for task_id in ids
            if task_id in step.tasks
        ]

    @property
    def takes_turns(self) -> bool:
        """See `Owner.takes_turns`."""
        return self.options.tells_its_end

    @property
    def trial_of(self) -> str | None:
        """See `Owner.trial_of`."""
        return self.options.trial_of

    @property
    def effects(self) -> str | None:
        """See `Owner.effects`."""
        return self.options.effects

    async def name_of_line(self, question: bytes) -> bytes:
        """See `Owner.name_of_line`. With encryption, it says nothing of the question."""
        return keyed(await digest_key(self.database, self.serde), question)

    def name_of_key(self, question: bytes) -> str:
        """See `Owner.name_of_key`. With encryption, it says nothing of the question."""
        return key_name(self.digest_key, question)

    @property
    def digest_key(self) -> bytes | None:
        """The key of keyed digests; `None` without encryption."""
        return known_digest_key(self.database, self.serde)

    def caller_ids(self, ns: str) -> list[str]:
        """Ids of the tasks in which a graph runs, whether they have used their step or not.

        Segments of its namespace, and of those around it, have them; a graph with `checkpointer=True` keeps its
        namespace from call to call, so the caller is remembered.
        """
        around = {*_prefixes(ns), *(self.namespaces[ns].above if ns in self.namespaces else ())}
        ids = {part.rpartition(":")[2] for each in around for part in each.split("|") if ":" in part}
        ids |= {self.namespaces[each].caller or "" for each in around if each in self.namespaces}
        return sorted(ids - {""})

    def name_questions(self, ns: str, task_id: str, asked: Iterable[Interrupt[Any]]) -> None:
        """Give questions that were withdrawn before a name of their own: those of the task, and of those it runs in.

        In place: the very objects are what LangGraph hands to whoever waits for the run.
        """
        if not self.options.tells_questions_apart:
            return
        for question in asked:
            if question.id in self.renamed.values():
                continue  # that of a subgraph, on its way up
            if question.id not in self.renamed:
                asking = {task_id, *(caller.task.id for caller in self.callers(ns))}
                tasks = (task for step in self.steps.values() for task in step.tasks.values() if task.id in asking)
                withdrawn = sum(task.withdrawn for task in tasks)
                if not withdrawn:
                    continue
                self.renamed[question.id] = masked(question.id, withdrawn)
            question.id = self.renamed[question.id]

    def spend_answers(self, ns: str, task_ids: Iterable[str]) -> None:
        """Answers to the open questions of these tasks are taken, or taken back: they are for nothing asked later."""
        for task_id in task_ids:
            self.spent.update(self.namespaces[ns].asked_by(task_id))

    @contextmanager
    def stores_below(self, ns: str) -> Iterator[None]:
        """Something of a graph is being stored: a commit, an answer. Who forgets what subgraphs have stored waits.

        Enter it with a connection in hand, and look inside whether a caller has drifted: who forgets has one too.
        """
        end = asyncio.get_running_loop().create_future()
        self._below[end] = ns
        try:
            yield
        finally:
            del self._below[end]
            end.set_result(None)

    async def take_back(self, what: Withdrawal, conn: Connection) -> None:
        """Discard results of drifted tasks, also those that are still on their way. See `discard`.

        And what their subgraphs have stored: when the tasks are marked as drifted, none of those begins to store more.
        """
        self.spend_answers(what.ns, what.asked)
        await self.writes.withdraw(what)
        below = [end for end, ns in self._below.items() if any(self.runs_in(task_id, ns) for task_id in what.tasks)]
        if below:
            await asyncio.wait(below)
        self.provenance.forget(list(what.tasks))
        await discard(conn, self.database.schema, self.thread_id, self.token, what)

    def earlier(self) -> Iterator[tuple[Task, list[Read], Sequence[Staged]]]:
        """See `Owner.earlier`."""
        return self.provenance.log()

    async def rewind(self, moved: Sequence[Task], conn: Connection) -> None:
        """See `Owner.rewind`."""
        if entries := self.provenance.among(moved):
            self.refuse_poisoned()
            await rewind(self, entries, conn)

    def refuse_poisoned(self) -> None:
        """Raise why no commit of this run may happen any more, if there is a reason."""
        if self.poison is not None:
            raise self.poison

    async def below_stored(self) -> None:
        """Wait for everything that is being stored at the moment, see `stores_below`."""
        if self._below:
            await asyncio.wait(set(self._below))

    def drift(self) -> Drift | None:
        """The conflict of a run that has ended with questions, if any of its open super-steps has drifted.

        Such a question was withdrawn, or a sibling of the asking task has to run again: neither is to be shown.
        """
        names = sorted({node for step in self.steps.values() for node in step.tasks.drifted.values()})
        return withdrawn_question(names, self.thread_id) if names else None

    def strays(self, task_id: str) -> list[SuperStep]:
        """Open super-steps at which subgraphs that a task ran have stopped, taken out of the run's books.

        Those that a subgraph went past (its caller was retried, and began it anew) are closed: nothing of them counts.
        """
        found = [self.steps.pop(key) for key in list(self.steps) if self.runs_in(task_id, key[0])]
        stopped = [step for step in found if self.namespaces[step.ns].stands_at(step.checkpoint_id)]
        for step in found:
            if step not in stopped:
                self.database.home.spawn(step.end)
        return stopped

    def runs_in(self, task_id: str, ns: str) -> bool:
        """Whether a namespace belongs to a subgraph that the task runs, or to one inside that.

        The namespace of a subgraph with `checkpointer=True` has no task id, so the caller is remembered.
        """
        return f":{task_id}" in ns or any(
            prefix in self.namespaces and self.namespaces[prefix].caller == task_id for prefix in _prefixes(ns)
        )

    async def close(self) -> None:
        """The run is over: release the transactions of steps that will not commit, and end every wait for a commit."""
        for namespace in self.namespaces.values():
            namespace.fail(self.stale())
        for step in list(self.steps.values()):
            await step.end()
        self.steps.clear()
        self.holder.within = None


def _prefixes(ns: str) -> list[str]:
    """Of a namespace: those of the graphs around it from the outside in, and its own."""
    if "|" not in ns:
        return [ns]
    parts = ns.split("|")
    return ["|".join(parts[:n]) for n in range(1, len(parts) + 1)]
