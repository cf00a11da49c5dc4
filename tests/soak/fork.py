"""The processes of a round, forked by the nursery of the crash tests and looked after without blocking."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.world import Nursery

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.program import Errand
    from tests.soak.worker import Job

__all__ = ["TELL", "Forked", "Forks", "nursery"]

TELL = signal.SIGUSR1  # has a worker write what its tasks are waiting for
PROGRAMS = ("tests.soak.worker", "tests.soak.program")
_LOOK = 0.01  # seconds between two looks at what has become of the processes


def nursery() -> Nursery:
    """One that has imported what the processes run."""
    return Nursery(*PROGRAMS)


@dataclass(eq=False)
class Forked:
    """A process.

    Attributes:
        pid: its number.
        folder: where its output is.
        ended: its exit code, negative for the signal that killed it.
        stopped: it has stopped itself.
    """

    pid: int
    folder: Path
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, number: int) -> bool:
        """Send a signal; false if the process has ended."""
        if self.ended.done():
            return False
        os.kill(self.pid, number)  # one that has ended and was not looked at yet keeps its number
        return True

    async def ends_or_stops(self, patience: float) -> None:
        """Wait for either. Raises `TimeoutError`."""
        stops = asyncio.ensure_future(self.stopped.wait())
        try:
            done, _ = await asyncio.wait([self.ended, stops], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stops.cancel()
        if not done:
            raise TimeoutError

    async def ends(self, patience: float) -> int:
        """Wait for its end: the exit code. Raises `TimeoutError`."""
        async with asyncio.timeout(patience):
            return await asyncio.shield(self.ended)

    @property
    def said(self) -> str:
        """What it has written to standard error."""
        return (self.folder / f"{self.pid}.err").read_text(errors="replace")[-4000:]


class Forks:
    """All processes of a round; as a context manager, none is left at its end.

    Attributes:
        stuck: if it ended in an error: what the processes that were alive were doing.
    """

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder
        self._alive: dict[int, Forked] = {}
        self._watch: asyncio.Task[None] | None = None
        self.stuck = ""

    async def __aenter__(self) -> Forks:
        self._watch = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._tell_all(signal.SIGCONT)
            self._tell_all(TELL)
            await asyncio.sleep(0.5)
            self.stuck = "\n".join(f"{each.pid}:\n{each.said}" for each in self._alive.values())
        self._tell_all(signal.SIGKILL)
        await asyncio.gather(*(forked.ended for forked in self._alive.values()))
        assert self._watch is not None
        self._watch.cancel()

    def start(self, what: Job | Errand, *, at: str | None = None, number: int = signal.SIGKILL) -> Forked:
        """Start a process; with `at`, it sends itself a signal at the nth time it reaches a failpoint."""
        reply = self._nursery.call(
            program=type(what).__module__,
            arguments=what.arguments(),
            variables={},
            folder=str(self._folder),
            failpoint=at,
            signal=number,
        )
        forked = self._alive[reply["pid"]] = Forked(reply["pid"], self._folder)
        return forked

    def _tell_all(self, number: int) -> None:
        for forked in self._alive.values():
            with suppress(ProcessLookupError):
                os.kill(forked.pid, number)

    async def _look(self) -> None:
        while True:
            for pid, state in self._nursery.call(look=list(self._alive)).items() if self._alive else ():
                if state == "stopped":
                    self._alive[int(pid)].stopped.set()
                else:
                    self._alive.pop(int(pid)).ended.set_result(state)
            await asyncio.sleep(_LOOK)
