"""A worker: takes queued runs as long as it has room, renews what it has, and hands back what it cannot finish.

Everything that must hold between workers is in the database (`checkpointer.fleet`); this process may be killed, paused
or cut off at any point of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from superstep.checkpointer import Again, End
from superstep.runtime.faults import ConflictExhausted, DatabaseUnavailable, StaleRun, ThreadBusy
from superstep.runtime.workers.answering import Entry, entry, unheard
from superstep.runtime.workers.perform import config_of, output_of, perform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from superstep.checkpointer import Claimed, TransactionalSaver
    from superstep.runtime.settings.settings import WorkerSettings
    from superstep.runtime.workers.graphs import Graphs

    _Handler = Callable[[bytes, int], Awaitable[None]]

__all__ = ["Worker"]

_log = logging.getLogger("superstep.worker")

_PASSING = (DatabaseUnavailable, StaleRun, ThreadBusy, ConflictExhausted)
_RENEWALS = 4  # in a lease
_LOOK = 1.0  # seconds between looks at what nobody has woken this worker for, at most
_AFTER = 0.01  # seconds after the lease of a run, at which it is looked whether it was renewed
_GATHER = 0.025  # seconds that the end of a run may wait for others, to share their transaction
_SHARE = 4  # they wait until so great a part of the places is free
_FAR = 60.0  # seconds between looks for schedules whose next time is too far away
_AWAY = 1.0  # seconds between tries while the database is away
_LEFT = timedelta(seconds=0.5)  # an effect whose graph is not here is put back for so long
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_BUSY = 1.0  # seconds between tries of a run whose thread others are at
_CHANCE = random.SystemRandom()


@dataclass(slots=True)
class _Job:
    """A run that this worker is at.

    Attributes:
        run: it.
        control: drains it.
        lost: another worker has it by now.
    """

    run: Claimed
    control: RunControl
    lost: bool = False


class Worker:
    """See the module. One use: `work`.

    Args:
        saver: of the graphs.
        graphs: those that it has, and how to find out about others.
        settings: how many at once, for how long, how often.
        say: told, in a sentence, what people may want to know.

    Attributes:
        ended: how many runs have ended here, by their states.
    """

    def __init__(
        self, saver: TransactionalSaver, graphs: Graphs, settings: WorkerSettings, say: Callable[[str], None]
    ) -> None:
        self.ended = Counter[str]()
        self._saver, self._graphs, self._settings, self._say = saver, graphs, settings, say
        self._fleet = saver.fleet
        self._id: UUID = saver.runs.worker.id
        self._jobs: dict[asyncio.Task[None], _Job] = {}
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._ends: dict[UUID, End] = {}
        self._until: float | None = None
        self._looked = -_LOOK
        self._asked_for: set[str] = set()
        self._pause = min(_LOOK, settings.lease / _RENEWALS)

    async def work(self, stop: asyncio.Event) -> None:
        """Take runs until `stop` is set; then let those under way end, for the time of grace, and hand back the rest.

        Raises:
            QueueMismatch: the tables of the queue are missing, or of another version.
            ConfigError: the package of the queue is not installed.
        """
        effects = {kind: self._of_graphs_here(each) for kind, each in self._saver.effect_handlers().items()}
        waking = asyncio.create_task(
            self._fleet.wakes(self._woken, lease=self._settings.lease, stop=stop, others=effects)
        )
        waking.add_done_callback(lambda _: self._wake.set())
        aside = [waking, asyncio.create_task(_then(stop, self._wake.set))]
        for act, pause in self._aside():
            aside.append(asyncio.create_task(_again(act, pause)))
        try:
            while not stop.is_set():
                self._wake.clear()
                if not await self._exchange() and not await self._look_around() and not waking.done():
                    await self._rest()
                if waking.done() and not stop.is_set():
                    await waking
            await self._drain()
        finally:
            for task in [*self._jobs, *aside]:
                task.cancel()
            await asyncio.gather(*self._jobs, *aside, return_exceptions=True)
            with suppress(DatabaseUnavailable):
                await self._fleet.leave(self._id)

    async def _woken(self) -> None:
        self._wake.set()
        self._enough.set()

    async def _rest(self) -> None:
        """Until there may be something to take: somebody says so, or the lease of a run of another worker is over."""
        pause = self._pause if self._until is None else min(self._pause, max(self._until, 0.0) + _AFTER)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _of_graphs_here(self, deliver: _Handler) -> _Handler:
        """Deliver effects that this worker has handlers for, or the graphs that may declare them when imported."""

        async def handle(payload: bytes, attempts: int) -> None:
            graph = await self._fleet.graph_of_effect(payload.decode())
            if graph is not None and graph not in self._graphs.names:
                self._asked_for.add(graph)  # to be looked for by the task that loads graphs
                self._wake.set()
                raise Again(_LEFT)
            await deliver(payload, attempts)

        return handle

    async def _exchange(self, *, takes: bool = True) -> bool:
        """Record what has ended, and begin runs. Whether there were any."""
        if takes:
            await self._gather()
        ends = list(self._ends.values())
        room = self._settings.concurrency - len(self._jobs) if takes else 0
        mine = [*self._ends, *(job.run.run_id for job in self._jobs.values())]
        try:
            got = await self._fleet.exchange(self._id, self._graphs.names, room, self._settings.lease, mine, ends)
        except DatabaseUnavailable as error:
            self._say(f"The database is away: {error}")
            await asyncio.sleep(_AWAY)
            return False
        self._until = got.until
        for end in ends:
            del self._ends[end.run.run_id]
            if end.run.run_id in got.recorded:
                self._tell(end)
        for run in got.runs:
            job = _Job(run, RunControl())
            task = asyncio.create_task(self._do(job))
            self._jobs[task] = job
            task.add_done_callback(self._freed)
        return bool(got.runs)

    async def _gather(self) -> None:
        """Ends wait a moment for others, unless something has come that could begin, or nothing else is under way."""
        if self._ends and self._jobs and not self._is_enough():
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER):
                    await self._enough.wait()
        self._enough.clear()

    def _is_enough(self) -> bool:
        size = self._settings.concurrency
        return self._enough.is_set() or not self._jobs or (size - len(self._jobs)) * _SHARE >= size

    def _tell(self, end: End) -> None:
        self.ended[end.state] += 1
        said = f" ({end.error})" if end.error else ""
        self._say(f"{end.run.graph} on thread {end.run.thread_id}: {end.state}{said}")

    def _freed(self, task: asyncio.Task[None]) -> None:
        self._jobs.pop(task, None)
        self._wake.set()
        if self._is_enough():
            self._enough.set()

    async def _look_around(self) -> bool:
        """Whether runs wait for a graph that this worker turns out to have. Looked at now and then, or if asked for."""
        if not self._asked_for and time.monotonic() - self._looked < self._pause:
            return False
        self._looked = time.monotonic()
        with suppress(DatabaseUnavailable):
            waiting = dict.fromkeys(self._asked_for, True) | await self._fleet.graphs()
            news = await self._graphs.look(waiting)
            for name in sorted(news & set(self._graphs.missing)):
                nobody = "" if waiting[name] else " No worker has it."
                self._say(f"Runs of {name} are left to others: {self._graphs.missing[name]}{nobody}")
            if found := news & self._graphs.names:
                await self._beat()
                return bool(found)
        return False

    # -- one run -------------------------------------------------------------------------------------------------

    async def _do(self, job: _Job) -> None:
        """Run it, and record what became of it."""
        run = job.run
        try:
            ended = await self._perform(job)
        except GraphDrained:
            await self._patiently(lambda: self._fleet.put_back(run))
        except asyncio.CancelledError:
            if not job.lost:
                await asyncio.shield(self._hand_back(run))
        except _PASSING as error:
            await self._try_again(run, error)
        except Exception as error:  # noqa: BLE001 - whatever a node raises is how the run has ended
            _log.info("Run %s of %s failed.", run.run_id, run.graph, exc_info=error)
            await self._record(run, "failed", f"{type(error).__name__}: {error}")
        else:
            await self._record(run, ended.state, ended.error, values=ended.values, refused=ended.refused)

    async def _perform(self, job: _Job) -> _Ended:
        run, fleet = job.run, self._fleet
        if len(run.left_by) >= self._settings.tries:
            raise _GivenUpError(f"{len(run.left_by)} workers have died at it, or gone silent.")
        begun = await fleet.begin(run)
        saver = self._graphs.typed_saver(run.graph)
        entered = Entry(fleet.request(run, saver.serde), begun, None)
        if run.answer is not None:
            found = await entry(saver, run, entered.request, begun=begun)
            if not isinstance(found, Entry):
                said = None if found is None else f"{type(found).__name__}: {found}"
                return _Ended("completed" if found is None else "failed", said, refused=True)
            entered = found
        request, begun, delivery, _ = entered
        async with self._graphs.flow(run.graph, config_of(run, request), request.context) as flow:
            state = await perform(flow, self._saver, run, request, job.control, begun=begun, delivery=delivery)
            said = await unheard(saver, run, entered)
            if said is not None and state == "interrupted":
                return _Ended("failed", said, refused=True)
            tells = state == "completed" and (run.parent is not None or run.answer is not None)
            return _Ended(state, said, values=await output_of(flow, run.thread_id) if tells else None)

    async def _record(
        self, run: Claimed, state: str, error: str | None = None, *, values: Any = None, refused: bool = False
    ) -> None:
        """The run is this worker's, and renewed, until that is recorded. If it dies before, the next one finds out.

        One that others wait for is recorded at once and by itself; most are when this worker asks for more.
        """
        if run.parent is None and run.answer is None:
            self._ends[run.run_id] = End(run, state, error)
            return
        fleet = self._graphs.typed_saver(run.graph).fleet
        if await self._patiently(lambda: fleet.end(run, state, error, values=values, refused=refused)):
            self._tell(End(run, state, error))

    async def _try_again(self, run: Claimed, error: Exception) -> None:
        """After an error that may pass. A thread that others are at is waited for as long as it takes."""
        said = f"{type(error).__name__}: {error}"
        busy = isinstance(error, ThreadBusy)
        if run.failures + 1 >= self._settings.tries and not busy:
            await self._record(run, "failed", said)
            return
        longest = _BUSY if busy else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(run.failures, 16))
        delay = longest * _CHANCE.uniform(0.5, 1.0)
        await self._patiently(lambda: self._fleet.put_back(run, delay, said, failed=not busy))

    async def _patiently(self, record: Callable[[], Awaitable[bool]]) -> bool:
        """Once the database can be reached. Until then the run is this worker's, or another one finds out by itself."""
        while True:
            try:
                return await record()
            except DatabaseUnavailable:
                await asyncio.sleep(_AWAY)

    # -- staying and going ---------------------------------------------------------------------------------------

    def _aside(self) -> list[tuple[Callable[[], Awaitable[object]], float]]:
        """What is done beside the runs, again and again, and the seconds in between.

        Every worker submits what schedules say and looks after threads that wait, and none does what others did.
        """
        schedules = self._saver.schedules
        return [
            (self._renew, self._settings.lease / _RENEWALS),
            (schedules.draw_near, _FAR),
            (schedules.submit_due, _LOOK),
            (self._fleet.look_after, _LOOK),
        ]

    async def _renew(self) -> None:
        """Keep the leases, and give up what another worker has taken."""
        await self._beat()
        jobs = [(task, job) for task, job in self._jobs.items() if not task.done()]
        ended = [end.run for end in self._ends.values()]
        kept = await self._fleet.renew(self._id, [*(job.run for _, job in jobs), *ended], self._settings.lease)
        for task, job in jobs:
            if job.run.run_id not in kept and not task.done():
                job.lost = True
                task.cancel()

    async def _beat(self) -> None:
        settings = self._settings
        await self._fleet.beat(self._id, self._graphs.names, settings.concurrency, settings.lease)

    async def _drain(self) -> None:
        """Let each run commit the super-step that it is in; after the time of grace, hand it back as it is."""
        for job in self._jobs.values():
            job.control.request_drain("the worker stops")
        if self._jobs:
            self._say(
                f"Stopping: {len(self._jobs)} runs end their super-steps, for {self._settings.grace:g} s at most."
            )
        over = time.monotonic() + self._settings.grace
        while self._jobs and (left := over - time.monotonic()) > 0:
            if self._ends:  # others may be waiting for the thread, or for a place that a limit gives
                await self._exchange(takes=False)
            await asyncio.wait(list(self._jobs), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if self._ends:
            await self._exchange(takes=False)

    async def _hand_back(self, run: Claimed) -> None:
        with suppress(DatabaseUnavailable):  # else its lease runs out
            await self._fleet.put_back(run)


class _Ended(NamedTuple):
    """How a run has ended, see `Fleet.end`."""

    state: str
    error: str | None = None
    values: Any = None
    refused: bool = False


class _GivenUpError(Exception):
    """A run was given to many workers, and none has said what became of it."""


async def _again(act: Callable[[], Awaitable[object]], pause: float) -> None:
    """Do it again and again. What goes wrong once (a full disk, a lock that another one holds) is no end of it."""
    while True:
        try:
            await act()
        except DatabaseUnavailable:
            await asyncio.sleep(_AWAY)
        except Exception as error:  # noqa: BLE001 - the runs under way go on, and so does what keeps them
            _log.warning("%s: %s", type(error).__name__, error)
        await asyncio.sleep(pause)


async def _then(event: asyncio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()
