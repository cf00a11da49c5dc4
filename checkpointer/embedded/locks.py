"""File locks that the kernel drops when their holder dies, even by `kill -9`.

All are `flock(2)` locks on files in the server's home folder, which have to be the caller's own:

    `users`    shared by every process that uses the server; the watcher takes it exclusively to stop the server. Its
               text is the longest time, in seconds, that a user asked the server to outlast its last user
    `start`    held by the process that is starting or stopping the server on request
    `watcher`  held by the watcher for as long as it lives
    `server`   inherited by the server and its backends; free only when all of them are gone
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from superstep.checkpointer.embedded.trust import own_file
from superstep.checkpointer.embedded.watcher import asked_for

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ask_for", "exclusive", "is_held", "share"]


def share(path: Path) -> int:
    """Takes a shared lock, waiting for an exclusive holder, and returns the descriptor whose closing drops it."""
    fd = own_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        # The watcher sees from the time stamp that a user was here, even one that came and went between two looks.
        os.utime(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def ask_for(fd: int, seconds: float) -> None:
    """Writes into the users' lock how long the server is to stay without users, unless it is to stay longer anyway.

    Two that ask at the same moment may leave the shorter time: each says it again when it is called again.
    """
    if seconds > asked_for(fd):
        text = f"{seconds}\n".encode()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds an exclusive lock, waiting for other holders."""
    fd = own_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Says whether some process holds the lock exclusively."""
    try:
        fd = own_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
