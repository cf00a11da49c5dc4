"""A round: workers and programs on one database, what becomes of them, and what they leave."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.embedded import status
from superstep.runtime.faults import DatabaseUnavailable
from tests.isolation.tasks import Keys
from tests.isolation.workload import TABLES
from tests.soak import books
from tests.soak.fork import Forked, Forks
from tests.soak.plan import Fate, How
from tests.soak.program import Errand
from tests.soak.verdict import Left, judge
from tests.soak.worker import Job, flow_of
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.crash.world import Nursery
    from tests.soak.plan import Plan

__all__ = ["Round", "Tally"]

_PATIENCE = 90.0  # seconds that a worker may take to its end if nothing happens to it
_OLD_ENOUGH = 1.3  # seconds: a server that is killed earlier counts as one that does not start
_AGE = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
_AHEAD = 4
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS at, count(*) OVER () AS of
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND application_name <> 'the round'
) each WHERE at = floor($1::float8 * of)
"""


@dataclass
class Tally:
    """What a round, or many, have done.

    Attributes:
        crashes: by kind.
        steps: super-steps committed.
        tasks: of these, those of subgraphs included.
        calls: of models, paid.
        problems: what must not be.
        seconds: it took.
    """

    crashes: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    tasks: int = 0
    calls: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.crashes += other.crashes
        self.steps += other.steps
        self.tasks += other.tasks
        self.calls += other.calls
        self.problems += other.problems
        self.seconds += other.seconds

    def __str__(self) -> str:
        crashes = ", ".join(f"{count} {what}" for what, count in sorted(self.crashes.items()))
        return (
            f"{self.steps} super-steps ({self.tasks} tasks, {self.calls} paid calls), {self.crashes.total()} crashes"
            f"{f' ({crashes})' if crashes else ''}, {self.seconds:.1f} s"
        )


class Round:
    """One round.

    Args:
        plan: what happens.
        url: of an empty database with the tables of the saver.
        folder: for what the processes write.
        nursery: forks them.
        server: the folder of the embedded server, if that may be killed.
        planted: a defect, for tests of the tests.
    """

    def __init__(
        self,
        plan: Plan,
        url: str,
        folder: Path,
        nursery: Nursery,
        server: Path | None = None,
        planted: str | None = None,
    ) -> None:
        self.plan = plan
        self.url = url
        self.folder = folder
        self.tally = Tally()
        self._forks = Forks(nursery, folder)
        self._server = server
        self._planted = planted
        self._books: list[Path] = []
        self._threads: list[str] = []
        self._ended: set[str] = set()
        self._trouble: list[str] = []  # what processes had to say that they should not have

    async def run(self) -> Tally:
        """Let it happen, and judge what is left."""
        began = time.monotonic()
        await self._prepare()
        async with TransactionalSaver.from_conn_string(self.url, pool_max=2) as saver:
            try:
                async with self._forks:
                    await self._everything(saver)
            except* TimeoutError:
                self._trouble.append(f"a process did not end within {_PATIENCE} s. {self._forks.stuck}")
        left = await self._left()
        self.tally.problems = self._trouble + judge(self.plan, left)
        self.tally.steps, self.tally.tasks = left.steps, sum(map(len, left.logs.values()))
        self.tally.calls = len(left.paid)
        self.tally.seconds = time.monotonic() - began
        return self.tally

    async def _prepare(self) -> None:
        async with self._connection() as conn:
            await conn.execute(f"{TABLES}; CREATE INDEX ON member (key); ALTER TABLE list_of SET (fillfactor = 30)")
            keys = [(key,) for key in Keys.of(self.plan.shape).lists]
            await conn.executemany("INSERT INTO list_of (key) VALUES ($1)", keys)

    async def _everything(self, saver: TransactionalSaver) -> None:
        programs = [self._program() for _ in range(self.plan.programs)]
        async with asyncio.TaskGroup() as around:
            chaos = []
            if self.plan.crashes:
                chaos.append(around.create_task(self._end_connections()))
            if self.plan.server_kills:
                chaos.append(around.create_task(self._kill_server()))
            async with asyncio.TaskGroup() as slots:
                for slot in range(self.plan.workers):
                    slots.create_task(self._slot(saver, slot))
            for each in chaos:
                each.cancel()
        for program in programs:
            if code := await program.ends(_PATIENCE):
                self._trouble.append(f"a program beside ended with {code}: {program.said}")

    # -- workers -------------------------------------------------------------------------------------------------------

    async def _slot(self, saver: TransactionalSaver, slot: int) -> None:
        """One worker after the other, each with what those before it have left."""
        life, fenced, late = 0, False, set[asyncio.Task[None]]()
        threads: list[str] = []
        while True:
            threads = [thread for thread in threads if thread not in self._ended]
            if not threads:
                if life and not self._more_to_happen:
                    break
                threads = await self._new_threads(saver)
            fate = self.plan.fate(slot, life) if self._more_to_happen else Fate(How.LIVES)
            life += 1
            worker, book = self._worker(threads, fate)
            if await self._meets(worker, fate):
                fenced = True
                late.add(asyncio.create_task(self._wakes(worker, fate, book)))
                continue
            await self._ends(worker, book, fate, fenced=fenced)
        await asyncio.gather(*late)

    @property
    def _more_to_happen(self) -> bool:
        crashes = self.tally.crashes
        return crashes.total() < self.plan.crashes or crashes["SIGKILL of the server"] < self.plan.server_kills

    async def _new_threads(self, saver: TransactionalSaver) -> list[str]:
        """Threads with their input, which nobody runs yet: so whoever runs one goes on with it."""
        flow = flow_of(self.plan, saver, 0)
        threads = [f"{self.plan.name}/{len(self._threads) + at}" for at in range(self.plan.shape.flows)]
        self._threads += threads
        for thread in threads:
            config = config_of(thread)
            while True:
                with suppress(DatabaseUnavailable):
                    if (await flow.aget_state(config)).config["configurable"].get("checkpoint_id"):
                        break
                    await flow.aupdate_state(config, {"left": self.plan.shape.rounds, "log": []}, as_node="__start__")
                    break
        return threads

    def _worker(self, threads: list[str], fate: Fate) -> tuple[Forked, Path]:
        book = self._new_book()
        job = Job(
            self.url, str(book), self.plan.kind.value, self.plan.seed, len(self._books), threads, planted=self._planted
        )
        if fate.how is How.KILLED_AT:
            return self._forks.start(job, at=fate.place), book
        if fate.how is How.STOPPED_AT:
            return self._forks.start(job, at=fate.place, number=signal.SIGSTOP), book
        return self._forks.start(job), book

    async def _meets(self, worker: Forked, fate: Fate) -> bool:
        """Wait for a worker's fate; whether it is asleep."""
        if fate.how in (How.KILLED, How.STOPPED):
            await asyncio.wait([worker.ended], timeout=fate.after)
            number = signal.SIGKILL if fate.how is How.KILLED else signal.SIGSTOP
            asleep = worker.send(number) and fate.how is How.STOPPED
        else:
            await worker.ends_or_stops(_PATIENCE)
            asleep = worker.stopped.is_set() and not worker.ended.done()
        if asleep:
            self.tally.crashes[fate.how.value] += 1
        return asleep

    async def _wakes(self, worker: Forked, fate: Fate, book: Path) -> None:
        """A worker that sleeps while another has its threads; then it goes on where it was."""
        await asyncio.sleep(fate.asleep)
        worker.send(signal.SIGCONT)
        await self._ends(worker, book, fate, fenced=True)

    async def _ends(self, worker: Forked, book: Path, fate: Fate, *, fenced: bool) -> None:
        """Wait for a worker's end, and look whether it ended as it should."""
        code = await worker.ends(_PATIENCE)
        if code == -signal.SIGKILL and fate.how in (How.KILLED, How.KILLED_AT):
            self.tally.crashes[fate.how.value] += 1
        elif code:
            self._trouble.append(f"a worker ({fate}) ended with {code}: {worker.said}")
        for line in books.read(book):
            if line["what"] == "ended":
                self._ended.add(line["thread"])
            elif line["what"] == "stale" and not fenced:
                self._trouble.append(f"a run of {line['thread']} was fenced although nobody took the thread over")
            elif line["what"] == "away":
                self._trouble.append(f"a run of {line['thread']} ended in an error of the database: {line['error']}")

    def _program(self) -> Forked:
        book = self._new_book()
        return self._forks.start(Errand(self.url, str(book), self.plan.kind.value, self.plan.seed, len(self._books)))

    def _new_book(self) -> Path:
        self._books.append(self.folder / f"book {len(self._books)}")
        return self._books[-1]

    # -- connections and the server ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection, as soon as there is a server. What is done with it is over, and no error, if that dies."""
        while True:
            try:
                conn = await asyncpg.connect(self.url, server_settings={"application_name": "the round"})
            except DRIVER_ERRORS:
                await asyncio.sleep(0.02)
            else:
                break
        with suppress(*DRIVER_ERRORS):
            try:
                yield conn
            finally:
                conn.terminate()

    async def _end_connections(self) -> None:
        """One at a time, at random moments."""
        dice, crashes = self.plan.dice("connections"), self.tally.crashes
        while self._more_to_happen:
            await asyncio.sleep(dice.uniform(0.01, 0.1))
            if 2 * crashes["pg_terminate_backend"] > crashes.total() + _AHEAD:
                continue  # it is so much easier than to kill a process that there would be little else
            async with self._connection() as conn:
                crashes["pg_terminate_backend"] += bool(await conn.fetchval(_TERMINATE, dice.random()))

    async def _kill_server(self) -> None:
        assert self._server is not None
        dice = self.plan.dice("server")
        while self.tally.crashes["SIGKILL of the server"] < self.plan.server_kills:
            age = 0.0
            async with self._connection() as conn:
                age = await conn.fetchval(_AGE)
            await asyncio.sleep(max(0.0, _OLD_ENOUGH - age) + dice.uniform(0, 0.4))
            if (pid := status(self._server).pid) is not None:
                os.kill(pid, signal.SIGKILL)
                self.tally.crashes["SIGKILL of the server"] += 1
                await asyncio.sleep(0.05)

    # -- what is left --------------------------------------------------------------------------------------------------

    async def _left(self) -> Left:
        left = Left(self._threads)
        for book in self._books:
            for line in books.read(book):
                left.note(line)
        async with self._connection() as conn:
            await left.look(conn)
        return left
