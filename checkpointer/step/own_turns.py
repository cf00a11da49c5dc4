"""The turns of one super-step: those it needs before a read, and those it has until it ends.

It ends with an attempt that commits, or has no next one. One that drifted although it had its turns (a program beside
has written, or a sibling's write comes before its own) keeps them for the next: at the end of the line its results
would be old again when it is its turn. One that needs others too gives all back, since it has to wait in order. So does
one of a subgraph: if a task around it runs again, it never comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from superstep.checkpointer.step.ports import Owner
    from superstep.checkpointer.step.read_set import Read
    from superstep.checkpointer.turns import SuperStepKey, Turn

__all__ = ["OwnTurns"]


class OwnTurns:
    """Of the super-step that is, whenever it is tried again, the same `place`."""

    def __init__(self, owner: Owner, place: SuperStepKey) -> None:
        self._owner = owner
        self._place = place
        self._owed: frozenset[bytes] | None = None  # not asked for yet
        self._has: list[Turn] = []
        self._for: frozenset[bytes] = frozenset()  # questions
        if owner.takes_turns:
            self._has, self._for = owner.turns.resume(owner.holder, place)
        self._ended = False
        self.took: set[bytes] = set()

    @property
    def has_any(self) -> bool:
        """Whether it has a turn."""
        return bool(self._has)

    async def wanted(self, question: bytes | None) -> Mapping[bytes, bytes]:
        """The turns to take before a read: on what moved in the attempt before, and on its own question if it is hot.

        Returns:
            Questions with the names of their lines; nothing if the run has them all.
        """
        hot = self._owner.turns.hot
        if self._owed is None:
            self._owed = hot.owed(self._place)
        wanted = set(self._owed)
        if question is not None and hot.is_hot(question):
            wanted.add(question)
        names = {each: await self._owner.name_of_line(each) for each in wanted}
        has = set(self._owner.holder.names())
        return {each: name for each, name in names.items() if name not in has}

    async def take(self, wanted: Mapping[bytes, bytes]) -> float:
        """Wait for them; the seconds it took. With no connection, lock or transaction in hand."""
        got, seconds = await self._owner.turns.take(self._owner.holder, wanted.values())
        self._owed = frozenset()
        self._has += got
        self._for |= wanted.keys()
        self.took |= wanted.keys()
        if self._ended:
            self.give_back()
        return seconds

    def moved(self, reads: Iterable[Read], log: Iterable[Read]) -> None:
        """These reads have moved, of a log of which nothing counts now: the next attempt takes turns."""
        keys = {key for read in reads if (key := read.turn_key) is not None}
        if keys:
            asked = {key for read in log if (key := read.turn_key) is not None}
            self._owner.turns.hot.moved(self._place, keys, asked)

    def times_moved(self, read: Read) -> int:
        """How often this fact has moved under the super-step, over all its attempts in this process."""
        return self._owner.turns.hot.times(self._place, read.turn_key)

    def end(self, *, again: bool) -> None:
        """This attempt is over: others may go on, unless the super-step is tried `again` with the turns it has."""
        self._ended = True
        turns = self._owner.turns
        if again and self._has and not self._place[1] and not turns.hot.owes_other_than(self._place, self._for):
            turns.keep(self._owner.holder, self._place, self._has, self._for)
            self._has = []
        self.give_back()

    def give_back(self) -> None:
        """Others may go on."""
        self._owner.turns.leave(self._owner.holder, self._has)
        self._has = []
