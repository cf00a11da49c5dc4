"""A round: runs are submitted, workers take them and are killed, others go on; then what is left is judged."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer import Order, Request, TransactionalSaver
from tests.soak import books
from tests.soak.fleet import flows
from tests.soak.fleet.plan import WAKES
from tests.soak.fleet.receiver import Receiver
from tests.soak.fleet.verdict import FleetLeft, judge_fleet
from tests.soak.fleet.worker import FleetJob
from tests.soak.fork import Forks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.crash.world import Nursery
    from tests.soak.fleet.plan import FleetPlan, Kill
    from tests.soak.fork import Forked

__all__ = ["FleetRound", "FleetTally"]

_PATIENCE = 300.0  # seconds until all has ended that was submitted
_LOOK = 0.05
_OPEN = """
SELECT (SELECT count(*) FROM runtime.queued_run WHERE ended_at IS NULL)
     + (SELECT count(*) FROM runtime.effect WHERE state = 'waiting')
"""


@dataclass
class FleetTally:
    """What came of it.

    Attributes:
        kills: of workers, by how.
        runs: that have ended.
        effects: that were delivered, and how often in all they came to the receiver.
        came: as said.
        paid: calls of the model.
        given_out: how often runs were given to a worker.
        problems: what must not be.
        seconds: it took.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    effects: int = 0
    came: int = 0
    paid: int = 0
    given_out: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {how}" for how, count in sorted(self.kills.items()))
        return (
            f"{self.runs} runs given out {self.given_out} times, {self.paid} paid calls, {self.effects} effects that "
            f"came {self.came} times, {self.kills.total()} SIGKILLs ({kills}), {self.seconds:.1f} s"
        )


@asynccontextmanager
async def _beside(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of one's own."""
    conn = await asyncpg.connect(url)
    try:
        yield conn
    finally:
        conn.terminate()


class FleetRound:
    """One round.

    Args:
        plan: what happens.
        url: of an empty database with the tables of the saver and of the queue.
        folder: for what the processes write.
        nursery: forks them.
        planted: a defect, for tests of the tests.
    """

    def __init__(self, plan: FleetPlan, url: str, folder: Path, nursery: Nursery, planted: str | None = None) -> None:
        self.plan, self.url, self.folder, self._planted = plan, url, folder, planted
        self.tally = FleetTally()
        self._forks = Forks(nursery, folder)
        self._receiver = Receiver()
        self._books: list[Path] = []
        self._submitted = 0
        self._over = False

    async def run(self) -> FleetTally:
        """Let it happen, and judge what is left."""
        began = time.monotonic()
        async with TransactionalSaver.from_conn_string(self.url, pool_max=4) as saver:
            await saver.setup()
            async with saver.transaction() as tx:
                await tx.execute(flows.TABLES)
            with self._receiver.serving():
                try:
                    await self._everything(saver)
                except* TimeoutError:
                    self.tally.problems.append(f"not all has ended within {_PATIENCE} s")
            left = await self._left(saver)
        self.tally.problems += judge_fleet(self.plan, left)
        self.tally.runs, self.tally.given_out = len(left.runs), sum(run["delivery"] for run in left.runs)
        self.tally.effects, self.tally.came = len(left.receiver.handled), left.receiver.came.total()
        self.tally.paid, self.tally.seconds = len(left.threads.paid), time.monotonic() - began
        return self.tally

    async def _everything(self, saver: TransactionalSaver) -> None:
        await self._submit(saver)
        async with self._forks, asyncio.TaskGroup() as slots:
            for _ in range(self.plan.workers):
                slots.create_task(self._slot(saver))
            # READ COMMITTED: a serializable look at everything would be in the way of every commit.
            async with _beside(self.url) as beside, asyncio.timeout(None) as limit:
                while await self._open(beside) or not self._is_done:
                    if self._is_done and limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + _PATIENCE)
                    await asyncio.sleep(_LOOK)
            self._over = True

    @property
    def _is_done(self) -> bool:
        return self.tally.kills.total() >= self.plan.kills

    async def _submit(self, saver: TransactionalSaver) -> None:
        """As many as are due after so many kills."""
        plan = self.plan
        due = min(plan.runs, -(-plan.runs * (self.tally.kills.total() + 1) // plan.kills))
        numbers, self._submitted = range(self._submitted, due), max(due, self._submitted)
        await saver.fleet.submit_all([self._order(at) for at in numbers])

    def _order(self, at: int) -> Order:
        thread, nr = self.plan.thread(at)
        state = {"thread": thread, "nr": nr, "account": 1 + at % flows.ACCOUNTS, "effects": self.plan.effects}
        return Order(flows.GRAPH, Request(state), thread)

    async def _slot(self, saver: TransactionalSaver) -> None:
        """One worker after the other; the last one lives."""
        while not self._over:
            kill = None if self._is_done else self.plan.kill(len(self._books))
            self._books.append(self.folder / f"book {len(self._books)}")
            job = FleetJob(self.url, str(self._books[-1]), self._receiver.url, self._planted)
            stops = kill is not None and kill.asleep > 0
            number = signal.SIGSTOP if stops else signal.SIGKILL
            worker = self._forks.start(job, at=kill.at if kill else None, number=number)
            if kill is None:
                while not self._over and not worker.ended.done():  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(_LOOK)
                worker.send(signal.SIGTERM)
                how = ""
            else:
                how = await self._end(worker, kill)
            code = await worker.ends(_PATIENCE)
            if code == -signal.SIGKILL and kill is not None:
                self.tally.kills[how] += 1
                await self._submit(saver)
            elif code:
                self.tally.problems.append(f"a worker ended with {code}: {worker.said}")
                self._over = True

    async def _end(self, worker: Forked, kill: Kill) -> str:
        """Let its fate have it: how it ended."""
        while not self._has_begun(worker) and not worker.ended.done():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(_LOOK)
        with suppress(TimeoutError):
            await worker.ends_or_stops(kill.after)
        place = str(kill.at).partition(":")[0]
        if not kill.asleep:
            return "at a moment" if worker.send(signal.SIGKILL) else f"at {place}"
        how = f"stopped at {place}" if worker.stopped.is_set() else "stopped at a moment"
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(kill.asleep)
        worker.send(signal.SIGCONT)
        await asyncio.wait([worker.ended], timeout=WAKES)
        worker.send(signal.SIGKILL)
        return how

    def _has_begun(self, worker: Forked) -> bool:
        """Whether it has said so."""
        said = self.folder / f"{worker.pid}.err"
        return said.exists() and said.stat().st_size > 0

    async def _open(self, beside: asyncpg.Connection[asyncpg.Record]) -> int:
        """How much has not ended."""
        return int(await beside.fetchval(_OPEN)) + self.plan.runs - self._submitted

    async def _left(self, saver: TransactionalSaver) -> FleetLeft:
        left = FleetLeft(self._receiver)
        for book in self._books:
            for line in books.read(book):
                left.threads.note(line)
        async with saver.transaction() as tx:
            await left.look(tx)
        return left
