"""Requests and tokens a minute: when a call may begin so that the provider does not turn it away."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["WINDOW", "RateLimit", "Taken"]

WINDOW = 60.0  # seconds


@dataclass(slots=True, eq=False)
class Taken:
    """One admitted call: when it was admitted, and its tokens, estimated until `RateLimit.settle` knows better."""

    at: float
    tokens: int
    counts: bool = True  # until a minute has passed


class RateLimit:
    """The limits of one deployment, over a sliding window: no 60 seconds ever hold more than `rpm` requests.

    The log of admissions is kept and not approximated by buckets or counters per minute: a fixed window admits twice
    the limit around its edge, a token bucket the limit plus its burst. It costs one small entry per admitted call of
    the last minute, and constant time per call, amortised; only a call that must wait for tokens looks at as many
    entries as have to expire first.

    Guarantees, if every call is admitted by `wait` returning 0.0 and then `take`, at the same `now`:

    - any half-open interval of 60 s holds at most `rpm` admissions;
    - at each admission, the tokens of the last 60 s (as settled, else estimated) and of the new call are at most `tpm`,
      or the call is alone: one that is larger than `tpm` is admitted when nothing else counts, and so never waits for
      ever. A call that turns out larger than its estimate delays those after it;
    - after `wait(now, n)` seconds, unless others took the room meanwhile, `wait` returns 0.0.

    `None` is no limit. Not safe for use from several threads; it never waits, so tasks of one event loop may share it.
    """

    def __init__(self, rpm: int | None, tpm: int | None) -> None:
        self._rpm = rpm
        self._tpm = tpm
        self._admitted: deque[Taken] = deque()  # of the last minute, the oldest first
        self._tokens = 0  # theirs
        self._not_before = -math.inf

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a call of that many tokens may begin; 0.0 if now."""
        self._forget(now)
        admissible = max(self._not_before, self._request_free_at(), self._tokens_free_at(tokens))
        return _until(now, admissible)

    def take(self, now: float, tokens: int) -> Taken:
        """Admit a call. Returns what `settle` needs when its real size is known."""
        self._forget(now)
        taken = Taken(now, tokens)
        self._admitted.append(taken)
        self._tokens += tokens
        return taken

    def settle(self, taken: Taken, now: float, tokens: int) -> None:
        """Correct an admitted call to what the provider counted, in and out. It counts from when it was admitted."""
        self._forget(now)
        if taken.counts:
            self._tokens += tokens - taken.tokens
        taken.tokens = tokens

    def cool_down(self, now: float, seconds: float) -> None:
        """Admit nothing for that long: the provider said so (`retry-after`)."""
        self._not_before = max(self._not_before, now + seconds)

    def used(self, now: float) -> tuple[int, int]:
        """Requests and tokens of the last 60 s, for display."""
        self._forget(now)
        return len(self._admitted), self._tokens

    def _forget(self, now: float) -> None:
        while self._admitted and self._admitted[0].at + WINDOW <= now:
            expired = self._admitted.popleft()
            expired.counts = False
            self._tokens -= expired.tokens

    def _request_free_at(self) -> float:
        if self._rpm is None or len(self._admitted) < self._rpm:
            return -math.inf
        return self._admitted[len(self._admitted) - self._rpm].at + WINDOW

    def _tokens_free_at(self, tokens: int) -> float:
        free_at, counted = -math.inf, self._tokens
        if self._tpm is None:
            return free_at
        for taken in self._admitted:
            if counted == 0 or counted + tokens <= self._tpm:
                break
            free_at, counted = taken.at + WINDOW, counted - taken.tokens
        return free_at


def _until(now: float, then: float) -> float:
    """The least wait for which `now + wait >= then` holds in floating point, so that no waiting call is early."""
    wait = max(0.0, then - now)
    while now + wait < then:
        wait = math.nextafter(wait, math.inf)
    return wait
