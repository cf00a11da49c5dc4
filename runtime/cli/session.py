"""Running a command's coroutine: signals, the saver, and a quick way out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.runtime.cli.exits import Stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from superstep.checkpointer import StoredThreads, TransactionalSaver
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["Stop", "ask_threads", "open_saver", "open_threads", "run_async", "where"]

# SQLSTATE of a table or a schema that is not there.
NO_TABLES = frozenset({"42P01", "3F000"})

Result = TypeVar("Result")


class Stop:
    """Whether a signal asked the command to stop.

    Attributes:
        number: the signal, or `None`.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> None:
        """Let the first SIGINT or SIGTERM cancel the current task, and the second one kill the process."""
        if task := asyncio.current_task():
            self.call(task.cancel)

    def call(self, act: Callable[[], object]) -> None:
        """Let the first SIGINT or SIGTERM do something else, instead of what it would have done."""
        loop = asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            self.number = number
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)
                signal.signal(each, signal.SIG_DFL)
            act()

        for number in (signal.SIGINT, signal.SIGTERM):
            # Windows and threads other than the main one have no such handlers: KeyboardInterrupt does it there.
            with suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, on_signal, number)

    def check(self) -> None:
        """Turn a cancellation that a signal caused into `Stopped`. Call it where `CancelledError` was caught."""
        task = asyncio.current_task()
        if self.number is not None and task:
            task.uncancel()
            raise Stopped(self.number)


def run_async(main: Callable[[Stop], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine function to its end, or until a signal.

    Args:
        main: Gets the `Stop` that tells whether a signal came. Its output must be written before it returns.

    Returns:
        What it returned.

    Raises:
        Stopped: A signal ended it.
    """

    async def guarded() -> Result:
        stop.listen()
        try:
            return await main(stop)
        except asyncio.CancelledError:
            stop.check()
            raise
        finally:
            if stop.number is not None:
                _leave_threads_behind(stop.number)

    stop = Stop()
    return asyncio.run(guarded())


def _leave_threads_behind(number: int) -> None:
    """End the process if synchronous nodes are still at work in threads: nothing can cancel them, and exit waits.

    By now the database is closed and all output written, so there is nothing left to lose.
    """
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(128 + number)


@asynccontextmanager
async def open_saver(settings: CommandSettings, *, prepare: bool) -> AsyncIterator[TransactionalSaver]:
    """Connect to the database of the settings, to run a graph or to load one's state.

    Args:
        settings: Their section `database` says where, and how many connections.
        prepare: Create or update the runtime's tables. Always done for the embedded Postgres, which is ours.

    Yields:
        The saver.

    Raises:
        DatabaseUnavailable: There is no such database, or it does not let us in.
        SchemaMissing: It has not got the runtime's tables.
    """
    from superstep.checkpointer import TransactionalSaver

    opening = TransactionalSaver.from_conn_string(**asdict(settings.database))
    async with opening as saver, _with_tables(saver, settings, prepare=prepare):
        yield saver


@asynccontextmanager
async def open_threads(settings: CommandSettings, *, prepare: bool = False) -> AsyncIterator[StoredThreads]:
    """As `open_saver`, for commands that run no graph: LangGraph, which takes a second, is not imported."""
    from superstep.checkpointer import StoredThreads

    database = settings.database
    async with (
        StoredThreads.opened(database.url, schema=database.schema, pool_min=1, pool_max=1) as threads,
        _with_tables(threads, settings, prepare=prepare),
    ):
        yield threads


def ask_threads(settings: CommandSettings, ask: Callable[[StoredThreads], Awaitable[Result]]) -> Result:
    """Open the threads, ask them one thing, and close them. See `open_threads` and `run_async`."""

    async def main(_: Stop) -> Result:
        async with open_threads(settings) as threads:
            return await ask(threads)

    return run_async(main)


@asynccontextmanager
async def _with_tables(threads: StoredThreads, settings: CommandSettings, *, prepare: bool) -> AsyncIterator[None]:
    """Create or update the tables, or let missing ones be named."""
    from superstep.runtime.faults import RuntimeFault, SchemaMissing

    if prepare or settings.database.url is None:
        await threads.setup()
    try:
        yield
    except Exception as error:
        if isinstance(error, RuntimeFault) or getattr(error, "sqlstate", None) not in NO_TABLES:
            raise
        raise SchemaMissing(
            f"{where(settings)} has not got the runtime's tables in schema {settings.database.schema}."
        ) from error


def where(settings: CommandSettings) -> str:
    """Return how to call the database of the settings, without its password."""
    from superstep.runtime.settings.settings import without_password

    return without_password(settings.database.url) if settings.database.url else "the embedded Postgres in .runtime"
