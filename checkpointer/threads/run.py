"""A run: one owner of one thread, from loading it to its last commit.

*One writer per thread.* Loading a thread to run it raises the fencing token in its row. Every statement that stores
something for the run requires that token under the row's lock, so a worker that was paused and wakes up late, or that
lost the thread to `runtime resume`, stores nothing: not a checkpoint, not a pending write, not a discard.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, copy_checkpoint
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.codec import WriteRows
from superstep.checkpointer.langgraph.progress import NO_PROGRESS, Progress, nodes_between, progress
from superstep.checkpointer.step.superstep import SuperStep
from superstep.runtime.faults import RuntimeFault, StaleRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Engine
    from superstep.checkpointer.database.leases import Connection
    from superstep.checkpointer.step.read_set import Effect
    from superstep.checkpointer.step.task import Costs

__all__ = ["Batch", "Result", "Run", "RunOptions", "control_of"]

_RUNTIME = "__pregel_runtime"
_NULL_TASK = "00000000-0000-0000-0000-000000000000"
_TICKS = 4
_RECENT = 8  # checkpoints of a namespace remembered as committed; only the last one or two are ever asked for


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the caller of a run tells the saver, in `configurable` under `KEY`.

    Attributes:
        graph: name of the graph, kept with the thread; a thread of another graph is refused.
        accept_stale_answers: an answer to an interrupt counts even if the facts its question showed have moved.
    """

    KEY = "__superstep_options"

    graph: str | None = None
    accept_stale_answers: bool = False


def control_of(config: RunnableConfig) -> object | None:
    """The object that identifies a run: LangGraph makes one run control a run and hands it to subgraphs too."""
    runtime = config.get("configurable", {}).get(_RUNTIME)
    return getattr(runtime, "control", None)


@dataclass(slots=True)
class Result:
    """What LangGraph saves for one task: rows of pending writes, and the (serialized) effect they rest on."""

    task_id: str
    rows: WriteRows
    effect: tuple[str, bytes] | None
    finished: bool
    forget_memo: bool

    @property
    def answers(self) -> bool:
        """Whether this is a human's answer to an interrupt, on its way to the task that asked."""
        return self.task_id == _NULL_TASK and self.rows.idx == [WRITES_IDX_MAP[RESUME]]


@dataclass(slots=True)
class Batch:
    """Results of one super-step on their way to the database, alone or with the commit that follows them."""

    results: list[Result] = field(default_factory=list)
    stored: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the waiting `put_writes` calls how it went."""
        if self.stored.done():
            return
        if error is None:
            self.stored.set_result(None)
        else:
            self.stored.set_exception(error)
            self.stored.exception()  # somebody else reports it too


class Run:
    """See the module. Lives on the engine's loop.

    Attributes:
        token: the fencing token this run was given; `None` for a caller that is no run.
        head: the root checkpoint the run believes to be the thread's latest.
        moved: the run has stored a root checkpoint of its own.
        commits: super-steps it has committed.
        namespaces: those that LangGraph loaded for it: the graph's and its subgraphs'.
        poison: why no commit of this run may happen any more.
    """

    def __init__(
        self,
        engine: Engine,
        control: object,
        thread_id: str,
        *,
        token: int | None,
        head: str | None,
        options: RunOptions,
        serde: SerializerProtocol,
    ) -> None:
        self.engine = engine
        self.control = control
        self.thread_id = thread_id
        self.token = token
        self.head = head
        self.options = options
        self.serde = serde
        self.commits = 0
        self.moved = False
        self.namespaces: set[str] = set()
        self.steps: dict[tuple[str, str], SuperStep] = {}
        self._known: dict[str, deque[str | None]] = {}
        self._callers: dict[str, str | None] = {}
        self._since: dict[str, float] = {}
        self._progress: dict[str, Progress] = {}
        self._arriving: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._batches: dict[tuple[str, str], Batch] = {}
        self._storing: set[asyncio.Future[None]] = set()
        self.poison: RuntimeFault | None = None
        self._withdrawn: set[tuple[str, str, str]] = set()
        self._answers_withdrawn = False
        self._failed: dict[str, BaseException] = {}

    # -- super-steps ---------------------------------------------------------------------------------------------

    @classmethod
    def outside(cls, engine: Engine, thread_id: str, serde: SerializerProtocol) -> Run:
        """For a caller that is no run (a test, a script, update_state): it stores without owning the thread."""
        return cls(engine, object(), thread_id, token=None, head=None, options=RunOptions(), serde=serde)

    def loaded(self, ns: str, checkpoint: Checkpoint | None, caller: str | None) -> None:
        """LangGraph loaded this checkpoint to go on from it; `caller` is the task that runs it as a subgraph."""
        self.namespaces.add(ns)
        self._callers[ns] = caller
        self._failed.pop(ns, None)
        self._known.setdefault(ns, deque(maxlen=_RECENT)).append(checkpoint["id"] if checkpoint else None)
        self._progress[ns] = progress(copy_checkpoint(checkpoint)) if checkpoint else NO_PROGRESS
        self._since[ns] = time.perf_counter()

    def step(self, ns: str, checkpoint_id: str) -> SuperStep:
        """The super-step that started from this checkpoint."""
        key = (ns, checkpoint_id)
        if key not in self.steps:
            self.steps[key] = SuperStep(self, ns, checkpoint_id)
        return self.steps[key]

    def hypothesize(
        self, ns: str, checkpoint_id: str, effects: Iterable[Effect], costs: Costs | None, asked_again: Iterable[str]
    ) -> None:
        """Saved results were loaded with the checkpoint: they count only if what they rest on still holds."""
        kept = [e for e in effects if not (e.asked and self.options.accept_stale_answers)]
        if kept or costs is not None:
            self.step(ns, checkpoint_id).load(kept, costs, asked_again)

    def ran(self, ns: str, parent_id: str | None, checkpoint: Checkpoint) -> list[str]:
        """Names of the nodes whose super-step this checkpoint ends."""
        now = progress(checkpoint)
        step = self.steps.get((ns, parent_id or ""))
        names = nodes_between(self._progress.get(ns, NO_PROGRESS), now)
        self._progress[ns] = now
        return sorted(names | (step.node_names if step is not None else set()))

    async def committed(self, ns: str, checkpoint_id: str) -> None:
        """Wait until the checkpoint a step starts from is committed, and fail with it.

        LangGraph starts a step while the checkpoint before it is still being saved (always after the input; under
        durability "async" after every step). Reading before that commit could show a state without it.
        """
        if checkpoint_id in self._known.get(ns, ()):
            return
        if ns in self._failed:
            raise self._failed[ns]
        await asyncio.shield(self._arrival(ns, checkpoint_id))

    def since_last(self, ns: str) -> float:
        """Milliseconds since the namespace's last checkpoint was loaded or committed."""
        return round((time.perf_counter() - self._since.get(ns, time.perf_counter())) * 1000, 3)

    def _arrival(self, ns: str, checkpoint_id: str) -> asyncio.Future[None]:
        key = (ns, checkpoint_id)
        if key not in self._arriving:
            self._arriving[key] = asyncio.get_running_loop().create_future()
        return self._arriving[key]

    def arrived(self, ns: str, checkpoint_id: str) -> None:
        """The checkpoint is committed."""
        self._known.setdefault(ns, deque(maxlen=_RECENT)).append(checkpoint_id)
        self._since[ns] = time.perf_counter()
        if ns == "":
            self.head = checkpoint_id
            self.moved = True
        waiting = self._arriving.pop((ns, checkpoint_id), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def fail(self, ns: str, error: BaseException) -> None:
        """A commit failed: steps of the namespace that wait for it, or for one after it, fail with it."""
        self._failed[ns] = error
        for key in [key for key in self._arriving if key[0] == ns]:
            waiting = self._arriving.pop(key)
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()

    async def close(self) -> None:
        """Release the transactions of steps that will not commit."""
        for step in list(self.steps.values()):
            await step.end()
        self.steps.clear()

    def strays(self, task_id: str) -> list[SuperStep]:
        """Open super-steps at which subgraphs that a task ran have stopped, taken out of the run's books.

        Those that a subgraph went past (its caller was retried, and began it anew) are closed: nothing of them counts.
        """
        found = [self.steps.pop(key) for key in list(self.steps) if self._runs_in(task_id, key[0])]
        stopped = [step for step in found if [*self._known.get(step.ns, ())][-1:] == [step.checkpoint_id]]
        for step in found:
            if step not in stopped:
                self.engine.spawn(step.end)
        return stopped

    def _runs_in(self, task_id: str, ns: str) -> bool:
        """Whether a namespace belongs to a subgraph that the task runs, or to one inside that.

        The namespace of a subgraph with `checkpointer=True` has no task id, so the caller is remembered.
        """
        parts = ns.split("|")
        above = ("|".join(parts[:n]) for n in range(1, len(parts) + 1))
        return f":{task_id}" in ns or any(self._callers.get(prefix) == task_id for prefix in above)

    # -- pending writes ------------------------------------------------------------------------------------------

    async def save(self, ns: str, checkpoint_id: str, result: Result) -> None:
        """Store a task's result durably.

        The last task of a super-step finishes just before the commit, so results wait a few turns of the event loop
        for that commit to take them along; that makes a step without reads one round trip. If none comes (a sibling
        still runs, the step was interrupted), they are stored by themselves.

        Raises:
            StaleRun: the thread has another owner by now.
        """
        key = (ns, checkpoint_id)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = Batch()
            self.engine.loop.call_soon(self._tick, key, batch, _TICKS)
        batch.results.append(result)
        await asyncio.shield(batch.stored)

    def take(self, ns: str, checkpoint_id: str) -> Batch | None:
        """The results that nobody has stored yet, now the caller's to store and to settle."""
        return self._batches.pop((ns, checkpoint_id), None)

    def _tick(self, key: tuple[str, str], batch: Batch, left: int) -> None:
        if self._batches.get(key) is not batch:
            return  # a commit took it along
        if left:
            self.engine.loop.call_soon(self._tick, key, batch, left - 1)
        else:
            del self._batches[key]
            self.engine.spawn(lambda: self._flush(key, batch))

    async def _flush(self, key: tuple[str, str], batch: Batch) -> None:
        try:
            await failpoints.hit("writes.before_flush")
            await self.engine.autocommit(lambda conn: self.store(conn, *key, batch.results))
            await failpoints.hit("writes.flushed")
        except BaseException as e:  # noqa: BLE001 - handed to every caller that waits for it
            batch.settle(e)
        else:
            batch.settle()

    async def store(self, conn: Connection, ns: str, checkpoint_id: str, results: list[Result]) -> None:
        """Write results with their effects: one statement, nothing unless the run owns the thread.

        Results of tasks that drifted while they waited are left out. `discard` waits for a statement that is already
        under way, so a result never comes back after it was taken back.

        Raises:
            StaleRun: the run does not own the thread.
        """
        kept = [r for r in results if not self.withdrawn(ns, checkpoint_id, r.task_id)]
        if self._answers_withdrawn:
            kept = [r for r in kept if not r.answers]
        under_way = asyncio.get_running_loop().create_future()
        self._storing.add(under_way)
        try:
            if kept:
                await self._store(conn, ns, checkpoint_id, kept)
        finally:
            under_way.set_result(None)
            self._storing.discard(under_way)

    async def _store(self, conn: Connection, ns: str, checkpoint_id: str, results: list[Result]) -> None:
        rows = WriteRows.merged(result.rows for result in results)
        finished = {r.task_id: sum(i >= 0 for i in r.rows.idx) for r in results if r.finished}
        effects = [(r.task_id, *r.effect) for r in results if r.effect is not None]
        owned = await conn.fetchval(
            self.engine.sql["put_writes"],
            self.thread_id,
            ns,
            checkpoint_id,
            *rows,
            list(finished),
            list(finished.values()),
            [e[0] for e in effects],
            [e[1] for e in effects],
            [e[2] for e in effects],
            [r.task_id for r in results if r.forget_memo],
            self.token,
        )
        if not owned:
            raise self.stale()

    def withdrawn(self, ns: str, checkpoint_id: str, task_id: str) -> bool:
        """Whether the task's result was taken back. Outlives the super-step: a result can still be on its way then."""
        return (ns, checkpoint_id, task_id) in self._withdrawn

    async def discard(self, step: SuperStep, conn: Connection, asked: list[str]) -> None:
        """Take back the results of the step's drifted tasks; of those that `asked` a human, the answers as well.

        Also forgets the checkpoints of subgraphs that a drifted task ran, so that it runs them again on the new facts,
        unless those have committed domain writes: these stay, or running them again would write twice.
        """
        self._answers_withdrawn = self._answers_withdrawn or bool(asked)
        self._withdrawn.update((step.ns, step.checkpoint_id, task_id) for task_id in step.drifted)
        if self._storing:
            await asyncio.wait(set(self._storing))
        costs = step.costs
        owned = await conn.fetchval(
            self.engine.sql["discard"],
            self.thread_id,
            step.ns,
            step.checkpoint_id,
            self.token,
            list(step.drifted),
            costs.attempts,
            costs.repairs,
            costs.drifts,
            costs.llm_reused,
            step.elapsed_ms(),
            asked,
        )
        if not owned:
            raise self.stale()
        for task_id, node in step.drifted.items():
            # A subgraph with checkpointer=True keeps its namespace, named after the node, from call to call: of it only
            # what was made since this super-step began goes.
            stateful = _like(f"{step.ns}|{node}" if step.ns else node)
            where = (self.thread_id, f"%:{_like(task_id)}%", stateful, f"{stateful}|%", step.ns, step.checkpoint_id)
            if not await conn.fetchval(self.engine.sql["nested_domain_writes"], *where):
                await conn.execute(self.engine.sql["forget_nested"], *where)

    def stale(self) -> StaleRun:
        """The error for a run that lost its thread."""
        return StaleRun(
            f"Thread {self.thread_id!r} was taken over by a later run, or its state was changed from outside, so this "
            f"run was stopped before committing anything more. The later run carries on; to continue from the "
            f"thread's latest state use `runtime resume`, or invoke the graph with input None."
        )


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def is_output(writes: Iterable[tuple[str, Any]]) -> bool:
    """Whether these writes say that the task finished: it has one that is not about control."""
    channels = {channel for channel, _ in writes}
    return bool(channels - set(WRITES_IDX_MAP) - {"__error_source_node__"}) and not channels & {ERROR, INTERRUPT}
