"""Which keys are worth a turn: those that have lately moved under a super-step that had read them. Pure.

A key is a read: its statement and arguments. What is kept here is a hint of this process; it costs nobody correctness
if it is wrong, too old, or lost.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    K = TypeVar("K", bound=Hashable)
    V = TypeVar("V")

__all__ = ["HOT", "Hot"]

HOT = 10.0  # seconds that a key stays hot after it has moved
_MOST = 8_192  # of keys, and of super-steps


class Hot:
    """The hot keys, and those that super-steps which had to be given up take turns on when they are tried again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()  # the one that is hot for longest comes last
        self._said: OrderedDict[bytes, bytes] = OrderedDict()
        self._owed: OrderedDict[Hashable, frozenset[bytes]] = OrderedDict()
        self._times: OrderedDict[Hashable, int] = OrderedDict()

    @property
    def is_quiet(self) -> bool:
        """Whether no key is hot, and no super-step owes a turn."""
        return not self._until and not self._owed

    def is_hot(self, key: bytes) -> bool:
        """Whether super-steps should queue for this key before they read it."""
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return key in self._until

    def heat(self, key: bytes) -> None:
        """The key has moved."""
        _put(self._until, key, self._clock() + HOT)

    def answered(self, key: bytes, digest: bytes) -> None:
        """What a read said whose turn was taken: if that is what the one before read, turns on it are for nothing."""
        last = self._said.get(key)
        if last == digest:
            self._until.pop(key, None)
            self._said.pop(key)
            return
        _put(self._said, key, digest)
        if last is not None:
            self.heat(key)

    def moved(self, step: Hashable, keys: Collection[bytes], read: Collection[bytes]) -> None:
        """Facts of a super-step have moved: it is given up, and tried again.

        Args:
            step: tells it from others, and is the same when it is tried again.
            keys: of the facts that have moved.
            read: of all that it had read. Those that are hot it takes turns on as well: what it waits for next time, it
                has to wait for in order.
        """
        for key in keys:
            self.heat(key)
            _put(self._times, (step, key), self.times(step, key) + 1)
        _put(self._owed, step, frozenset(keys).union(key for key in read if self.is_hot(key)))

    def times(self, step: Hashable, key: bytes | None) -> int:
        """How often a key has moved under the super-step so far."""
        return self._times.get((step, key), 0)

    def owes_other_than(self, step: Hashable, keys: Collection[bytes]) -> bool:
        """Whether the super-step takes turns on other keys than these before it reads anything."""
        return not self._owed.get(step, frozenset()) <= set(keys)

    def owed(self, step: Hashable) -> frozenset[bytes]:
        """What the super-step takes turns on before it reads anything. Asked once."""
        return self._owed.pop(step, frozenset())


def _put(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _MOST:
        kept.popitem(last=False)
