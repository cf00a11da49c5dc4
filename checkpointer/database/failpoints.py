"""Named places where a test can make the process stop, fail or wait.

Off unless a test calls `arm`, or the variable `SUPERSTEP_FAILPOINT=name[:nth]` is set, which kills the process with
SIGKILL when it reaches that place for the nth time: how the crash tests hit every point of a commit in a real process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

__all__ = [
    "CHILD_NAMES",
    "EFFECT_NAMES",
    "IMPORT_NAMES",
    "INGEST_NAMES",
    "NAMES",
    "OUTSIDE_NAMES",
    "arm",
    "disarm",
    "hit",
]

NAMES = (
    "run.claimed",
    "step.pinned",
    "memo.before_store",
    "memo.stored",
    "writes.before_flush",
    "writes.flushed",
    "commit.begun",
    "commit.validated",
    "commit.staged",
    "commit.before_commit",
    "commit.committed",
    "commit.lost_answer",
)

INGEST_NAMES = ("ingest.locked", "ingest.sorted", "ingest.stored", "ingest.before_commit", "ingest.committed")
"""Those of a batch of events: no flow comes to them."""

EFFECT_NAMES = ("effect.claimed", "effect.delivered", "effect.settled")
"""Those of a worker that delivers an effect."""

IMPORT_NAMES = ("import.begun", "import.before_commit")
"""Those of a thread that is taken over from another saver."""

CHILD_NAMES = ("question.asked", "child.settled", "child.woken", "answer.looked_at")
"""Those of questions that are noted, of the end of a child, and of a worker that delivers an answer."""

OUTSIDE_NAMES = ("lift.made", "rollback.locked")
"""Those of changes that are made to a thread from outside of its runs."""

Action = Callable[[], Awaitable[None]]

_armed: dict[str, Action] = {}
_fatal, _, _nth = os.environ.get("SUPERSTEP_FAILPOINT", "").partition(":")
_remaining = int(_nth or 1)


def arm(name: str, action: Action) -> None:
    """Await `action` whenever the named place is reached."""
    if name not in (*NAMES, *INGEST_NAMES, *EFFECT_NAMES, *CHILD_NAMES, *IMPORT_NAMES, *OUTSIDE_NAMES):
        raise KeyError(name)
    _armed[name] = action


def disarm(name: str) -> None:
    """Forget the action of the named place."""
    _armed.pop(name, None)


async def hit(name: str) -> None:
    """Called by the code that reaches the place."""
    global _remaining
    if _fatal == name:
        _remaining -= 1
        if _remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if action := _armed.get(name):
        await action()
