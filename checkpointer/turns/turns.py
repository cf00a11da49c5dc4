"""Optimism pays a call of a model for every lost race, so it is used where races are rare; elsewhere there are turns.

A super-step that drifted takes a turn on the keys that moved, before its next snapshot, and keeps it until it has
committed, from attempt to attempt unless it owes another one by then. Before a key that is hot is read, its turn is
waited for as well.

*Waits in no circle that it knows of.* A run takes turns in the order of their names, and does not wait for one that
comes before any that it has: that key it reads without. Super-steps of its subgraphs are the same run, and share its
turns. A run that a node of another one started and waits for does not wait for turns of that one, nor for any before
those. What an attempt has kept for the next one is that one's before any of its tasks runs. What is not known (a flow
that a node starts in a thread of its own making, flows that wait for each other's events) ends with the turn: see
`lines.MOST`. Runs that never say that they are over take none.

*Nothing depends on it.* What a commit validates is the same with a turn and without. Whoever waits has no connection,
no lock and no transaction, so it keeps nobody from committing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from superstep.checkpointer.turns.hot import Hot
from superstep.checkpointer.turns.lines import Lines, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from superstep.checkpointer.database.database import Database

__all__ = ["Holder", "SuperStepKey", "Turn", "Turns"]

SuperStepKey: TypeAlias = tuple[str, str, str]  # thread, namespace, the checkpoint it started from
_KEPT = 5.0  # seconds that turns are kept for an attempt that does not come


class Holder:
    """A run as one that takes turns.

    Attributes:
        within: the run that one of its nodes started this one in, and waits for it.
        has: the turns that it has, by name.
    """

    def __init__(self, within: Holder | None = None) -> None:
        self.within = within
        self.has: dict[bytes, Turn] = {}
        self.lock = asyncio.Lock()  # one of its tasks at a time takes turns, or their order would mean nothing

    def names(self) -> Iterator[bytes]:
        """The names of all turns that it need not wait for."""
        holder: Holder | None = self
        while holder is not None:
            yield from holder.has
            holder = holder.within


class _Kept(NamedTuple):
    """Turns between two attempts, the questions they are for, and what gives them back in any case."""

    turns: list[Turn]
    questions: frozenset[bytes]
    timer: asyncio.TimerHandle


class Turns:
    """Of one saver. Lives on its event loop.

    Attributes:
        hot: which keys are worth a turn.
    """

    def __init__(self, database: Database) -> None:
        self.hot = Hot()
        self._lines = Lines(database)
        self._kept: dict[SuperStepKey, _Kept] = {}

    async def take(self, holder: Holder, names: Iterable[bytes]) -> tuple[list[Turn], float]:
        """Wait for turns. Call with no connection, lock or transaction in hand.

        Args:
            holder: the run.
            names: of the lines.

        Returns:
            Those it got, to be given back with `leave`, and the seconds that took. There are fewer if some can only be
            waited for out of order.
        """
        began = time.monotonic()
        got: list[Turn] = []
        try:
            async with holder.lock:
                for name in sorted(set(names)):
                    if any(name <= other for other in holder.names()):
                        continue
                    turn = await self._lines.wait(name)
                    if turn is not None:
                        holder.has[name] = turn
                        got.append(turn)
        except BaseException:
            self.leave(holder, got)
            raise
        return got, time.monotonic() - began

    def leave(self, holder: Holder, turns: Iterable[Turn]) -> None:
        """Give turns back."""
        for turn in turns:
            holder.has.pop(turn.name, None)
            self._lines.leave(turn)

    # -- between two attempts ----------------------------------------------------------------------------------------

    def keep(self, holder: Holder, step: SuperStepKey, turns: list[Turn], questions: frozenset[bytes]) -> None:
        """Keep turns on these questions for the next attempt of a super-step, which comes at once or not at all."""
        for turn in turns:
            holder.has.pop(turn.name, None)
        timer = asyncio.get_running_loop().call_later(_KEPT, self._let_go, step)
        self._kept[step] = _Kept(turns, questions, timer)

    def resume(self, holder: Holder, step: SuperStepKey) -> tuple[list[Turn], frozenset[bytes]]:
        """What the attempt before has kept, as far as it has not ended meanwhile, and for which questions."""
        kept = self._kept.pop(step, None)
        if kept is None:
            return [], frozenset()
        kept.timer.cancel()
        turns = [turn for turn in kept.turns if self._lines.has(turn)]
        holder.has.update((turn.name, turn) for turn in turns)
        return turns, kept.questions

    def keeps(self, thread_id: str) -> bool:
        """Whether others wait until the next attempt of a super-step of the thread is over."""
        return bool(self._of(thread_id))

    def let_go(self, thread_id: str) -> None:
        """There is no next attempt of any super-step of the thread."""
        for step in self._of(thread_id):
            self._let_go(step)

    def _of(self, thread_id: str) -> list[SuperStepKey]:
        return [step for step in self._kept if step[0] == thread_id] if self._kept else []

    def _let_go(self, step: SuperStepKey) -> None:
        kept = self._kept.pop(step)
        kept.timer.cancel()
        for turn in kept.turns:
            self._lines.leave(turn)

    async def close(self) -> None:
        """Whoever waits goes on without."""
        for step in list(self._kept):
            self._let_go(step)
        await self._lines.close()
