"""What committed results of a run rest on: what guards ask for, and what isolation "flow" validates in every commit.

It is kept where somebody has a use for it: in processes that have declared a guard, and for runs with isolation "flow".
Others store nothing of it and pay nothing.

*A run's own writes do not move its facts.* What the results of its earlier super-steps rest on is remembered with
what it says after the run's own commits: with isolation "flow" all of it, which every commit has just validated; for
guards what the committing super-step has validated itself, the facts of a guarded plan among them. So a fact that has
moved was moved by another transaction.

*Nothing is kept of what is not committed.* The rows are written in the transaction of the commit, and what is
remembered changes when that has succeeded. A result without facts is stored before its checkpoint, by itself, under
the id of that checkpoint: if it is never committed, no thread comes by it. What a run's own writes have changed is
added, not put in place of what was there: a fork from before them finds the facts as they were.

*Commits of one run with isolation "flow" come one after the other*, subgraphs side by side included. Between the
COMMIT of one and its being remembered here, another one would validate what that one has just changed itself.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from langgraph.constants import START

from superstep.checkpointer.database.errors import is_rejection
from superstep.checkpointer.langgraph.codec import dump, effect_at
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.keys import NULL_TASK, is_private_channel
from superstep.checkpointer.step.after_writes import answers_after_writes, need_no_protection
from superstep.checkpointer.step.read_set import Effect, Read
from superstep.checkpointer.step.task import Task
from superstep.checkpointer.threads.queries import provenance as queries
from superstep.checkpointer.threads.queries.provenance import Kept
from superstep.runtime.faults import ProvenanceMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.keys import RunOptions
    from superstep.checkpointer.step.read_set import Staged
    from superstep.checkpointer.threads.namespace import Namespace

__all__ = ["Entry", "Provenance", "declare_guarded", "is_input"]

_guarded: set[str] = set()


def declare_guarded(channels: Iterable[str]) -> None:
    """Graphs of this process guard what hangs on these channels: from now on it is kept what they rest on."""
    _guarded.update(channels)


class _Run(Protocol):
    """What it needs of its run."""

    database: Database
    thread_id: str
    token: int | None
    head: str | None
    options: RunOptions
    serde: SerializerProtocol

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """By name."""

    def caller_ids(self, ns: str) -> list[str]:
        """Ids of the tasks in which a graph runs."""


@dataclass(slots=True, eq=False)
class Entry:
    """A task whose result is committed.

    Attributes:
        ns: the namespace.
        checkpoint_id: the checkpoint that its super-step started from.
        root: the checkpoint that the outermost super-step around it started from.
        task: stands for it in read logs.
        callers: ids of the tasks that it ran in: as a part of a subgraph, or as a `@task`.
        channels: of the state, that it wrote to.
        effect: what the result rests on, without what it staged; `None` if nothing was kept.
        is_input: it is LangGraph's own task that writes the input of the graph to its channels.
    """

    ns: str
    checkpoint_id: str
    root: str
    task: Task
    callers: frozenset[str]
    channels: frozenset[str]
    effect: Effect | None
    is_input: bool = False

    @property
    def reads(self) -> list[Read]:
        """What the result rests on, as far as it is known."""
        return self.effect.reads if self.effect is not None else []

    def ran_in(self, task_ids: Collection[str]) -> bool:
        """Whether it ran in one of these tasks."""
        return not self.callers.isdisjoint(task_ids)


@dataclass(slots=True)
class _Commit:
    """A super-step that is about to be committed: its entries, and what earlier ones rest on once it is."""

    entries: list[Entry]
    moved_on: list[tuple[Entry, Effect]]


class Provenance:
    """Of one run. Lives on the saver's event loop.

    Attributes:
        lock: with isolation "flow", one commit of the run at a time.
        moved_at: when a commit of the run has last changed what earlier results rest on: in an older snapshot they do
            not hold.
    """

    def __init__(self, run: _Run) -> None:
        self.lock = asyncio.Lock()
        self.moved_at = 0.0
        self._run: _Run = weakref.proxy(run)  # which keeps this
        self._entries: list[Entry] | None = None  # first to last; not known before `load`
        self._outputs: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
        self._inputs: set[str] = set()  # ids of tasks that write inputs
        self._committing: dict[tuple[str, str], _Commit] = {}
        self._protects = False  # reads after writes, from the transaction
        self._has_trusted = False  # one that was not protected from them, in the latest try

    @property
    def is_kept(self) -> bool:
        """Whether anybody has a use for it."""
        return self._run.token is not None and (bool(_guarded) or self.binds)

    @property
    def binds(self) -> bool:
        """Whether every commit validates it (isolation "flow")."""
        return self._run.options.isolated_as_flow

    def begin(self) -> None:
        """The run begins with new input."""
        self._entries = []

    def handed_in(self, at: tuple[str, str], task_id: str, path: str, channels: Iterable[str]) -> None:
        """A task of the super-step at this place has finished, with writes to these channels."""
        if self.is_kept:
            if is_input(path):
                self._inputs.add(task_id)
            written = frozenset(channel for channel in channels if not is_private_channel(channel))
            self._outputs.setdefault(at, {})[task_id] = written

    def forget(self, ran_in: Collection[str]) -> None:
        """What these tasks ran is forgotten: it runs again."""
        if self._entries is not None:
            self._entries = [entry for entry in self._entries if not entry.ran_in(ran_in)]

    async def load(self) -> list[Entry]:
        """What the run has committed before, be it in other processes. With no connection or lock in hand.

        Raises:
            ProvenanceMissing: with isolation "flow", if something that it has read was not kept.
        """
        if self._entries is None:
            if self.binds:
                await self._refuse_gaps()
            loaded = await self.history(whole=False)
            self._entries = self._entries if self._entries is not None else loaded
        return self._entries

    async def _refuse_gaps(self) -> None:
        run, head = self._run, self._run.head
        if head is None or not await run.database.autocommit(
            lambda conn: queries.has_gaps(conn, run.database.schema, run.thread_id, head)
        ):
            return
        raise ProvenanceMissing(
            f"What the run of thread {run.thread_id!r} has read since it began is not known: it began without "
            f'isolation "flow", or its history was pruned. Nothing of this super-step was written. Go on without '
            f'isolation "flow", or give the thread new input.'
        )

    async def history(self, *, whole: bool) -> list[Entry]:
        """The same as it is stored, or that of all runs of the thread on the way to where it is."""
        run, head = self._run, self._run.head
        if head is None:
            return []
        rows = await run.database.autocommit(
            lambda conn: queries.history(conn, run.database.schema, run.thread_id, head, whole=whole)
        )
        found: dict[tuple[str, str, str], Entry] = {}
        for row in rows:  # of a task that comes again, the place is that of the first, and what it rests on of the last
            entry = self._loaded(row)
            known = found.setdefault((entry.ns, entry.checkpoint_id, entry.task.id), entry)
            known.effect = entry.effect
        return list(found.values())

    def _loaded(self, row: asyncpg.Record) -> Entry:
        at = row["ns"], row["checkpoint_id"]
        task, effect = Task(row["task_id"]), None
        if row["kind"] is not None:
            serde = effect_at(self._run.serde, Where(self._run.thread_id, *at), task.id)
            effect = Effect.load(task.id, serde.loads_typed((row["kind"], row["effect"])))
            task.node = effect.node
        callers, channels = frozenset(row["callers"]), frozenset(row["channels"])
        return Entry(*at, row["root"], task, callers, channels, effect, is_input(row["task_path"]))

    def log(self) -> Iterator[tuple[Task, list[Read], Sequence[Staged]]]:
        """What a commit of the run has to validate beside its own super-step, see `replay.Log`."""
        if self.binds:
            for entry in self._entries or ():
                if entry.reads:
                    yield entry.task, entry.reads, ()

    @property
    def has_log(self) -> bool:
        """Whether there is anything in the log."""
        return next(self.log(), None) is not None

    def among(self, moved: Collection[Task]) -> list[Entry]:
        """Those of the log that stand for these tasks."""
        return [entry for entry in self._entries or () if entry.task in moved] if self.binds else []

    def in_order(self) -> Sequence[Entry]:
        """All that are known, first to last."""
        return self._entries or ()

    # -- commits -------------------------------------------------------------------------------------------------

    def needs_row(self, at: tuple[str, str]) -> bool:
        """Whether a super-step that rests on nothing has to be remembered: a guarded channel was written in it."""
        return self.is_kept and any(not _guarded.isdisjoint(each) for each in self._outputs.get(at, {}).values())

    def committing_alone(self, at: tuple[str, str]) -> list[Kept]:
        """As `committing`, for a super-step that rests on nothing."""
        return self._rows(self._begin(at, [])) if self.needs_row(at) else []

    async def committing(
        self,
        conn: Connection,
        at: tuple[str, str],
        effects: Sequence[Effect],
        *,
        written: bool,
    ) -> list[Kept]:
        """What the super-step's results rest on, its writes applied: to be stored in the transaction that commits it.

        Args:
            conn: in that transaction.
            at: namespace and checkpoint that the super-step started from.
            effects: of its tasks.
            written: some have staged writes.
        """
        if not self.is_kept:
            return []
        commit = self._begin(at, effects)
        if written:
            await self._after_writes(conn, commit)
        return self._rows(commit)

    def _begin(self, at: tuple[str, str], effects: Sequence[Effect]) -> _Commit:
        commit = self._committing[at] = _Commit(self._entries_of(at, effects), [])
        return commit

    def _rows(self, commit: _Commit) -> list[Kept]:
        stored = [
            entry
            for entry in commit.entries
            if entry.effect is not None
            and not entry.is_input
            and (not entry.effect.empty or not _guarded.isdisjoint(entry.channels))
        ]
        changed = [replace(entry, effect=effect) for entry, effect in commit.moved_on]
        return [self._row(entry) for entry in (*stored, *changed)]

    def was_rejected(self, error: Exception) -> bool:
        """Whether a try to commit may have ended because it asked without protection. The next one will not."""
        if not self._has_trusted or not is_rejection(error):
            return False
        self._has_trusted, self._protects = False, True
        return True

    def committed(self, at: tuple[str, str]) -> None:
        """The super-step is committed."""
        self._outputs.pop(at, None)
        commit = self._committing.pop(at, None)
        if commit is not None and self._entries is not None:
            for entry, effect in commit.moved_on:
                entry.effect, self.moved_at = effect, time.monotonic()
            self._entries.extend(commit.entries)

    def root(self, at: tuple[str, str]) -> str:
        """The checkpoint that the outermost super-step started from which the super-step at this place is part of."""
        ns, checkpoint_id = at
        return self._run.namespaces[ns].above.get("", checkpoint_id) if ns else checkpoint_id

    def _entries_of(self, at: tuple[str, str], effects: Sequence[Effect]) -> list[Entry]:
        written, by_task = self._outputs.get(at, {}), {effect.task_id: effect for effect in effects}
        around, entries = self._run.caller_ids(at[0]) if at[0] else [], []
        for task_id in {**by_task, **written}:
            # What was given with an answer, or by a `Command` from outside, rests on nothing that is known.
            effect = by_task.get(task_id, Effect(task_id, "?")) if task_id != NULL_TASK else None
            effect = replace(effect, reads=[*effect.reads], staged=[]) if effect is not None else None
            task = Task(task_id, effect.node if effect is not None else "?")
            callers = frozenset((*around, *(effect.callers if effect is not None else ())))
            channels, is_input = written.get(task_id, frozenset()), task_id in self._inputs
            entries.append(Entry(*at, self.root(at), task, callers, channels, effect, is_input))
        return entries

    async def _after_writes(self, conn: Connection, commit: _Commit) -> None:
        """Go on with what the facts say now that the super-step's writes are applied."""
        earlier = self._entries or ()
        own = {(read.key, read.digest) for entry in commit.entries for read in entry.reads}
        validated = [e for e in earlier if self.binds or any((r.key, r.digest) in own for r in e.reads)]
        asked = {read.key: read for entry in (*validated, *commit.entries) for read in entry.reads}
        reads = list(asked.values())
        self._has_trusted = not self._protects and need_no_protection(reads)
        answers = await answers_after_writes(conn, reads, self._run.database.apart, protected=not self._has_trusted)
        now = {key: answer.digest for key, answer in zip(asked, answers, strict=True)}

        def moved_on(read: Read) -> Read:
            holds = self.binds or (read.key, read.digest) in own
            return replace(read, digest=now[read.key], after=False) if holds else read

        for entry in (*commit.entries, *validated):
            if entry.effect is None:
                continue
            effect = replace(entry.effect, reads=[moved_on(read) for read in entry.reads])
            if entry in commit.entries:
                entry.effect = effect
            elif any(new.digest != old.digest for new, old in zip(effect.reads, entry.reads, strict=True)):
                commit.moved_on.append((entry, effect))

    def _row(self, entry: Entry) -> Kept:
        place = entry.ns, entry.checkpoint_id, entry.task.id
        serde = effect_at(self._run.serde, Where(self._run.thread_id, *place[:2]), entry.task.id)
        effect = (entry.effect or Effect(entry.task.id, "?")).dump()
        kept = dump(serde, effect, f"an argument of a read of node {entry.task.node!r}")
        return Kept(*place, sorted(entry.callers), sorted(entry.channels), *kept)


def is_input(task_path: str) -> bool:
    """Whether the task with this path is LangGraph's own that writes the input of a graph to its channels."""
    return task_path.endswith(f", {START}")
