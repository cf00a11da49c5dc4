"""What calls lately took, where nothing says how much the next one may take."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Largest", "RecentTokens"]

_KEPT = 64  # calls of each deployment


class Largest(NamedTuple):
    """The most that calls took lately.

    Attributes:
        calls: how many have been observed, ever. Of `n` like values and the next one, each is the largest with the same
            probability, so the next call takes more than all before with 1 in `n + 1`.
        excess: input tokens above the estimate.
        output: output tokens.
    """

    calls: int
    excess: int
    output: int


class RecentTokens:
    """Tokens of the latest calls, by deployment. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, deque[tuple[int, int]]] = {}
        self._calls: dict[str, int] = {}

    def observe(self, name: str, *, estimated: int, read: int, written: int) -> None:
        """A call was answered: the input as estimated and as counted, and the output."""
        with self._lock:
            self._seen.setdefault(name, deque(maxlen=_KEPT)).append((max(0, read - estimated), written))
            self._calls[name] = self._calls.get(name, 0) + 1

    def largest(self, names: Iterable[str]) -> Largest:
        """The most that calls of any of these took."""
        with self._lock:
            known = [name for name in names if name in self._seen]
            seen = [each for name in known for each in self._seen[name]]
            calls = sum(self._calls[name] for name in known)
        return Largest(calls, max((more for more, _ in seen), default=0), max((out for _, out in seen), default=0))
