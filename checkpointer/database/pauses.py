"""How long super-steps let their transaction rest after a statement, learned from how long they did before.

Giving a transaction back and taking it again costs three round trips and a repetition of all reads. That is nothing
beside a model's answer, and most of the work of a node that reads, computes and writes. Which one it will be is not
known at the moment of the read; but what follows one statement is mostly the same each time.

A pause in which the event loop was busy says nothing of its flow: many that compute make the pauses of each other long,
and to give transactions back then adds to the work that they all wait for. So what counts of a pause is the time in
which nothing was computed. That corrects itself: where flows think, and their transactions are kept for too long, the
others wait, nothing is computed, and the pauses are seen to be long.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["BRIEF", "GRACE", "Pauses"]

GRACE = 0.1
"""Seconds for which a transaction that is likely to be used again at once is left alone, whoever waits."""

BRIEF = 0.025
"""Seconds for which one that is in the way of others is kept, whoever does not wait."""

_SHORT = 0.01
_BUSY_AT_MOST = 0.075  # a pause that is longer is a long one, whatever was computed meanwhile
_LONGEST = 1.0  # a longer pause counts as this: one long one among many short ones is soon forgotten
_WEIGHT = 0.25  # of the latest one
_MOST = 1024  # statements


class Pauses:
    """The pauses after each statement, of a process."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[str, float] = OrderedDict()

    def note(self, sql: str, seconds: float, busy: float = 0.0) -> None:
        """So long it took from this statement to the next one of its super-step.

        `busy`: seconds of CPU that the thread of the event loop has used meanwhile.
        """
        seconds = min(seconds, _LONGEST) if seconds > _BUSY_AT_MOST else max(0.0, seconds - busy)
        before = self._seconds.get(sql, seconds)
        self._seconds[sql] = before + _WEIGHT * (seconds - before)
        self._seconds.move_to_end(sql)
        if len(self._seconds) > _MOST:
            self._seconds.popitem(last=False)

    def is_short(self, sql: str) -> bool:
        """Whether the next statement is likely to follow at once."""
        return self._seconds.get(sql, _LONGEST) < _SHORT
