"""What all runs of one saver share: the pool, the statements, the registry of runs.

A saver may be cloned by LangGraph (`with_allowlist`), so its state lives here and not in the saver itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from superstep.checkpointer.database.leases import (
    DRIVER_ERRORS,
    Connection,
    Connections,
    is_lost,
    is_serialization_failure,
)
from superstep.checkpointer.database.sql import queries
from superstep.runtime.faults import ConfigError, DatabaseUnavailable, NoActiveStep, SchemaMissing, ThreadBusy

if TYPE_CHECKING:
    from superstep.checkpointer.threads.run import Run

__all__ = ["Engine", "set_embedder"]

T = TypeVar("T")
Embed: TypeAlias = Callable[[list[str]], Awaitable[list[list[float]]]]

_MOST_RUNS = 16_384
_TRIES = 12
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25


_embedder: list[Embed | None] = [None]


def set_embedder(embed: Embed) -> None:
    """Set what embeds texts for `nearest(text=...)` in this process. For whoever joins the libraries."""
    _embedder[0] = embed


class Engine:
    """Shared by a saver and its clones; bound to the event loop its pool was made on.

    Attributes:
        embed: embeds texts for `nearest(text=...)` of this saver, instead of the process's `set_embedder`.
        active: threads that a transactional flow of this process is running.
    """

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, schema: str, hold_idle: float, own_pool: bool = False
    ) -> None:
        self.schema = schema
        self.sql = queries(schema)
        self.connections = Connections(pool, hold_idle, keep=own_pool)
        self.loop = asyncio.get_running_loop()
        self.embed: Embed | None = None
        self.active: set[str] = set()
        self._runs: OrderedDict[tuple[int, str], Run] = OrderedDict()
        self._background: set[asyncio.Task[Any]] = set()

    # -- runs ----------------------------------------------------------------------------------------------------

    def find(self, control: object, thread_id: str) -> Run | None:
        """The run of a thread that LangGraph's run control belongs to."""
        run = self._runs.get((id(control), thread_id))
        if run is not None:
            self._runs.move_to_end((id(control), thread_id))
        return run

    def register(self, run: Run) -> None:
        """Remember a run. Runs of plain LangGraph never say that they ended, so those unused longest are forgotten.

        A forgotten run that wakes up after all is refused as stale. The number is far above what one process runs at
        a time.
        """
        self._runs[id(run.control), run.thread_id] = run
        while len(self._runs) > _MOST_RUNS:
            _, oldest = self._runs.popitem(last=False)
            self.spawn(oldest.close)

    @contextmanager
    def exclusive(self, thread_id: str) -> Iterator[None]:
        """Hold a thread against other runs of this process.

        Raises:
            ThreadBusy: one is running. (A run in another process is not waited for: it is fenced.)
        """
        if thread_id in self.active:
            raise ThreadBusy(
                f"Thread {thread_id!r} is being run by this process right now. Wait for that run, or use another "
                f"thread id."
            )
        self.active.add(thread_id)
        try:
            yield
        finally:
            self.active.discard(thread_id)

    async def end(self, control: object) -> None:
        """The caller knows that the run with this control is over: release whatever its steps hold."""
        for key in [key for key in list(self._runs) if key[0] == id(control)]:
            await self._runs.pop(key).close()

    # -- the database ----------------------------------------------------------------------------------------------

    async def autocommit(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run single statements on a connection, again if it breaks. `work` must bear being repeated.

        Raises:
            DatabaseUnavailable: the database did not come back.
        """
        for attempt in range(_TRIES):
            try:
                async with self.connections.borrow() as conn:
                    return await work(conn)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as e:
                raise SchemaMissing(
                    f"The checkpointer's tables are not in schema {self.schema!r} of this database. Call "
                    f"`await saver.setup()`, or run `runtime db migrate`."
                ) from e
            except DRIVER_ERRORS as e:
                if not (is_lost(e) or is_serialization_failure(e)):
                    raise
                failure = e
            await self.pause(attempt)
        raise DatabaseUnavailable(
            f"The database did not answer in {_TRIES} tries ({type(failure).__name__}). Nothing is half-written; "
            f"continue with `runtime resume` when it is back."
        ) from failure

    # -- the loop ------------------------------------------------------------------------------------------------

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something in the background and keep it from being collected."""
        task = self.loop.create_task(work())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Wait for background work and release all pinned transactions."""
        for run in list(self._runs.values()):
            await run.close()
        self._runs.clear()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        await self.connections.drop_free()

    async def pause(self, attempt: int) -> None:
        """Jittered exponential pause before trying a transaction again."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreading retries is not cryptography

    async def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on the engine's loop, from whichever loop the caller runs on."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def refuse_own_loop(self) -> None:
        """Raise `NoActiveStep` if blocking here would block the event loop that has to do the work."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if here is self.loop:
            raise NoActiveStep(
                "A blocking call (step.sync, flow.invoke, or a synchronous method of the saver) was made on the event "
                "loop that would have to serve it. Use the async method here, or call from another thread."
            )

    def from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and block this thread until it is done.

        Raises:
            NoActiveStep: called on the thread of that very loop, where blocking would wait for ever.
        """
        try:
            self.refuse_own_loop()
        except NoActiveStep:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def embed_one(self, text: str) -> list[float]:
        """The embedding of a text, by the embedder the runtime has set.

        Raises:
            ConfigError: none is set: the saver is used without the `runtime` package.
        """
        embed = self.embed or _embedder[0]
        if embed is None:
            raise ConfigError("nearest(text=...) needs an embedder: import `runtime`, or set saver.engine.embed.")
        return (await embed([text]))[0]

    async def shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which runs to its end even if the caller is cancelled meanwhile."""
        task = self.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return await asyncio.shield(task)
