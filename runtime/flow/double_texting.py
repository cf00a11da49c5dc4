"""What becomes of a call whose thread is being run: it is refused, waits, or ends that run ("double texting").

The words are those of LangGraph's server. What decides is the claim of the thread, in the database; all that is here
comes before it, and how it races is settled there:

*enqueue.* Calls stand in a line in Postgres (`checkpointer.turns.lines`), first come first served, and the first one
waits until nobody runs the thread. It claims the thread from nobody or not at all: a call that did not stand in line
may have been faster, and then it waits on. It leaves the line when it has the thread. A process that dies, or is silent
for 5 seconds, loses its places. Nobody who waits has a connection.

*interrupt.* A run of this process is asked to end after its super-step. If it has not within `interrupt_grace` seconds,
and in another process at once, it is fenced: what it has not committed by then is not.

*rollback.* What the input of that run has done is taken back (`checkpointer.threads.rollback`), which fences it too.

A run of this process is cut off only when it has claimed its thread: else it could claim it from its successor.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

from superstep.runtime.faults import ConfigError, DatabaseUnavailable, StaleRun

if TYPE_CHECKING:
    from superstep.checkpointer import Lease, TransactionalSaver, Turn

__all__ = ["STRATEGIES", "Admission", "checked_strategy", "interrupted"]

STRATEGIES = ("reject", "enqueue", "interrupt", "rollback")
_LOOK = 0.01  # seconds between two looks at who runs a thread, at first
_LONGEST_LOOK = 0.05  # later, at a run of this process
_LONGEST_LOOK_ELSEWHERE = 0.25  # and at one of another process
_LEFT = 60.0  # seconds that the consumer of a stream may take for an item, until it counts as gone


def checked_strategy(given: str | None) -> str | None:
    """The strategy, if it is one.

    Raises:
        ConfigError: it is none.
    """
    if given is not None and given not in STRATEGIES:
        words = ", ".join(f'"{each}"' for each in STRATEGIES)
        raise ConfigError(f"multitask_strategy must be one of {words}, not {given!r}.")
    return given


def interrupted(thread_id: str) -> StaleRun:
    """The error for a run that was asked to end for a later one, and has."""
    return StaleRun(
        f"This run of thread {thread_id!r} was interrupted by a later call, after a super-step. What it has committed "
        f"stays, and the later call goes on from there."
    )


class Admission:
    """Before a call claims its thread. Lives on the saver's event loop.

    Attributes:
        over: the run of this process that is to be cut off.
    """

    def __init__(self, saver: TransactionalSaver, thread_id: str, strategy: str, grace: float) -> None:
        self.over: Lease | None = None
        self._saver = saver
        self._thread_id = thread_id
        self._strategy = strategy
        self._grace = grace
        self._turn: Turn | None = None
        self._gone = False

    @property
    def takes_over(self) -> bool:
        """Whether the thread is claimed from a run of another process."""
        return self._strategy in ("interrupt", "rollback")

    async def admit(self, *, brings_input: bool) -> bool:
        """Wait until the thread may be claimed; whether it is worth trying again if somebody else was faster.

        Raises:
            ConfigError: a rollback for a call without new input.
            RollbackRefused: domain writes have been committed. The other run goes on.
            DatabaseUnavailable: the database did not come back.
        """
        self.over = None
        if self._strategy == "enqueue":
            await self._in_turn()
        elif self._strategy == "interrupt":
            await self._after_its_step()
        elif self._strategy == "rollback":
            await self._after_rollback(brings_input=brings_input)
        return self._strategy != "reject"

    def has_thread(self) -> None:
        """The thread is claimed: the next one in line may wait for it."""
        if self._turn is not None:
            self._saver.runs.queues.leave(self._turn)
            self._turn = None

    async def leave(self) -> None:
        """The call has ended, or does not want the thread any more."""
        self._gone = True
        self.has_thread()

    async def _in_turn(self) -> None:
        queues = self._saver.runs.queues
        name = hashlib.sha256(b"thread\0" + self._thread_id.encode()).digest()
        while not self._gone and (self._turn is None or not queues.has(self._turn)):
            self._turn = await queues.wait(name)
            if queues.closed:
                raise DatabaseUnavailable(f"The saver was closed while a call waited for thread {self._thread_id!r}.")
            if self._turn is None:  # the database does not answer, or others took this process for dead
                await self._saver.arunner(self._thread_id)
                await asyncio.sleep(_LONGEST_LOOK_ELSEWHERE)
            elif self._gone:
                queues.leave(self._turn)
        look = _LOOK
        while not self._gone and (longest := await self._longest_look()):
            await asyncio.sleep(look)
            look = min(2 * look, longest)

    async def _longest_look(self) -> float:
        """How long to wait at most until the next look at who runs the thread; 0 if nobody does."""
        holder = self._saver.runs.leases.holder(self._thread_id)
        if holder is not None:
            return _LONGEST_LOOK if holder.waits_for < _LEFT else 0.0
        return _LONGEST_LOOK_ELSEWHERE if await self._saver.arunner(self._thread_id) is not None else 0.0

    async def _after_its_step(self) -> None:
        leases = self._saver.runs.leases
        holder = leases.holder(self._thread_id)
        if holder is None:
            return
        holder.stopping = True
        ends = time.monotonic() + self._grace
        while not self._gone and leases.holder(self._thread_id) is holder and not holder.is_free:
            if time.monotonic() >= ends and self._has_claimed(holder):
                self.over = holder
                return
            await asyncio.sleep(_LOOK)

    async def _after_rollback(self, *, brings_input: bool) -> None:
        leases = self._saver.runs.leases
        holder = leases.holder(self._thread_id)
        while holder is not None:
            if leases.holder(self._thread_id) is not holder or self._has_claimed(holder):
                break
            await asyncio.sleep(_LOOK)
        if leases.holder(self._thread_id) is None and await self._saver.arunner(self._thread_id) is None:
            return
        if not brings_input:
            raise ConfigError(
                f"The call of thread {self._thread_id!r} brings no new input, so there is nothing that could take the "
                f'place of what a rollback removes. Nothing was changed; use "interrupt" or "enqueue" for it.'
            )
        await self._saver.aroll_back(self._thread_id)
        self.over = holder

    def _has_claimed(self, lease: Lease) -> bool:
        return self._saver.runs.find(lease.key, self._thread_id) is not None
