"""A worker: runs each of its threads to its end, and writes down the history that it ends with."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.threads.current import paying_task
from superstep.checkpointer.turns import lines
from superstep.providers import chat_model
from superstep.runtime.faults import DatabaseUnavailable, StaleRun, StepConflict
from tests.isolation.tasks import Tasks
from tests.soak.books import Book
from tests.soak.plan import Kind, Plan, draw
from tests.soak.planted import PLANTED
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.providers import OfflineRequest

__all__ = ["Job", "asks", "flow_of", "main"]

# Who has a turn and is dead keeps others waiting for a lease, and here somebody dies all the time. Turns are hints.
_BEAT, _LEASE = 0.1, 0.5
_EXECUTIONS = 100_000  # values that a worker has for itself
_token: ContextVar[int | None] = ContextVar("soak_token")


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        url: of the database.
        book: where it writes.
        kind: of the round, and its seed.
        seed: as said.
        number: its own, of all processes of the round.
        threads: what it runs.
        planted: a defect to plant, for tests of the tests.
    """

    url: str
    book: str
    kind: str
    seed: int
    number: int
    threads: list[str]
    planted: str | None = None

    @property
    def plan(self) -> Plan:
        """The round's."""
        return draw(Kind(self.kind), self.seed)

    def arguments(self) -> list[str]:
        """For `main`."""
        return [json.dumps(asdict(self))]


def main(arguments: list[str]) -> int:
    """Work."""
    job = Job(**json.loads(arguments[0]))
    lines.BEAT, lines.LEASE = _BEAT, _LEASE
    if job.planted is not None:
        PLANTED[job.planted](pytest.MonkeyPatch())
    asyncio.run(_work(job))
    return 0


def flow_of(plan: Plan, saver: TransactionalSaver, number: int, ask: Any = None) -> Any:
    """The flow that all threads of a round run, for the process with this number."""
    values = itertools.count(1 + number * _EXECUTIONS)
    tasks = Tasks(plan.shape, lambda name: random.Random(f"{plan.name} {name}"), values, ask)
    return transactional(tasks.graph(saver))


async def _work(job: Job) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell)
    plan, book = job.plan, Book(Path(job.book))
    async with _opened(job.url, plan) as saver:
        flow = flow_of(plan, saver, job.number, asks(book))
        threads = iter(job.threads)

        async def one_after_the_other() -> None:
            for thread in threads:
                await _finish(flow, book, thread)

        await asyncio.gather(*(one_after_the_other() for _ in range(plan.at_once)))


def _tell() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(limit=6)


@asynccontextmanager
async def _opened(url: str, plan: Plan) -> AsyncIterator[TransactionalSaver]:
    """A saver. It is opened as often as it takes: no run has begun that could outlive the loss of its connection."""
    while True:
        opening = TransactionalSaver.from_conn_string(url, hold_idle=plan.hold_idle, pool_max=plan.pool)
        try:
            saver = await opening.__aenter__()
        except DatabaseUnavailable:
            await asyncio.sleep(0.02)
        else:
            break
    try:
        yield saver
    finally:
        await opening.__aexit__(None, None, None)


async def _finish(flow: Any, book: Book, thread: str) -> None:
    """Go on with a thread until it has ended, or somebody else has it."""
    config = {**config_of(thread), "recursion_limit": 10_000}
    while True:
        try:
            state = await flow.aget_state(config)
            log = (await flow.ainvoke(None, config) if state.tasks else state.values)["log"]
        except StepConflict:
            book.note("conflict", thread=thread)
        except StaleRun:
            book.note("stale", thread=thread)
            return
        except DatabaseUnavailable as error:
            book.note("away", thread=thread, error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.05)
        else:
            book.note("ended", thread=thread, log=log)
            return


def asks(book: Book) -> Any:
    """Asks a model that writes down each call of it: these are paid. What a node has got is durable by then."""

    def pay(request: OfflineRequest) -> str:
        book.note("paid", question=request.text, token=_token.get())
        return f"answer to <{request.text}>"

    model = chat_model(offline=pay)

    async def ask(question: str) -> str:
        token = paying_task().run.token
        _token.set(token)
        answer = str((await model.ainvoke(question)).content)
        book.note("got", question=question, token=token)
        return answer

    return ask
