"""Starting, joining, leaving and stopping the embedded server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from superstep.checkpointer.embedded.binaries import bin_dir
from superstep.checkpointer.embedded.cluster import environment, plan
from superstep.checkpointer.embedded.locks import ask_for, exclusive, is_held, share
from superstep.checkpointer.embedded.place import DATABASE, ROLE, find, prepare
from superstep.checkpointer.embedded.probe import OK, probe
from superstep.checkpointer.embedded.trust import own_file
from superstep.checkpointer.embedded.upgrade import add_role, take_over
from superstep.checkpointer.embedded.watcher import BUSY
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from superstep.checkpointer.embedded.place import Place

__all__ = ["GRACE", "EmbeddedServer", "ServerStatus", "status", "stop"]

ROOT = Path(".runtime")
GRACE = 5.0  # seconds that a server without users stays up for the next command
_START_SECONDS = 120  # recovery after a crash included
_STOP_SECONDS = 30
_LOG_BYTES = 4_000_000
_WATCHER = Path(__file__).with_name("watcher.py")
_UP = {OK, "53300"}  # 53300: all connections are taken, so there is a server
_NO_SUCH_ROLE = "28000"
_COMING = {None, "57P03"}  # 57P03: starting up, recovering or shutting down


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What `status` found: whether a server runs, its address and process if so, and where its files are."""

    running: bool
    url: str | None
    pid: int | None
    home: Path | None


class EmbeddedServer:
    """One use of the shared embedded server.

    While it is open, the server is kept running. The end of the process closes it too, however the process ends; a few
    seconds after the last user the server stops. If the server is killed meanwhile, it is started again within a
    second; after `stop` it is not, and `acquire` starts it. Committed data survives all of that.

    Attributes:
        url: connection string, understood by asyncpg and libpq, of the role that flows connect as. It owns the database
            and may create others, but is no superuser.
        admin_url: the same as the superuser.
        home: the folder with the server's data and log.
    """

    def __init__(self, place: Place, users: int) -> None:
        self.url = place.url
        self.admin_url = place.admin_url
        self.home = place.home
        self._users: int | None = users

    @classmethod
    def acquire(cls, root: Path | None = None, *, grace: float | None = None) -> Self:
        """Joins the server of `root`, starting it if need be. Returns when it accepts connections.

        Blocks: a few milliseconds for a running server, some tenths of a second for one to start, seconds the very
        first time. Safe to call from any number of processes and threads at once.

        Args:
            root: folder that the server belongs to; `.runtime` in the current folder by default.
            grace: seconds without users after which the server stops; 5 if nobody asks for more. A server that runs
                already stays for the longest time that one of its users has asked for.

        Raises:
            DatabaseUnavailable: it cannot run here, or does not start. The message has the end of the server's log.
        """
        bin_dir()
        place = prepare(root or ROOT)
        with _explained(place):
            users = share(place.lock("users"))
            try:
                _ensure_running(place, GRACE if grace is None else grace)
                if grace is not None:
                    ask_for(users, grace)
            except BaseException:
                os.close(users)
                raise
        return cls(place, users)

    def close(self) -> None:
        """Stops being a user. May be called again."""
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def status(root: Path | None = None) -> ServerStatus:
    """Looks, without starting or creating anything.

    Raises:
        DatabaseUnavailable: what is there belongs to another account.
    """
    place = find(root or ROOT)
    if place is None:
        return ServerStatus(running=False, url=None, pid=None, home=None)
    with _explained(place):
        running = is_held(place.lock("watcher")) and _answer(place) in {*_UP, _NO_SUCH_ROLE}
    if not running:
        return ServerStatus(running=False, url=None, pid=None, home=place.home)
    try:
        pid = int((place.data / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        pid = None
    return ServerStatus(running=True, url=place.url, pid=pid, home=place.home)


def stop(root: Path | None = None) -> bool:
    """Stops the server now, users or not, and returns when it has ended.

    Returns:
        Whether there was one.

    Raises:
        DatabaseUnavailable: it did not end in time, or belongs to another account.
    """
    place = find(root or ROOT)
    if place is None:
        return False
    with _explained(place):
        return _stop(place)


def _stop(place: Place) -> bool:
    if not is_held(place.lock("watcher")):
        return False
    deadline = time.monotonic() + _STOP_SECONDS
    with exclusive(place.lock("start")):  # no other process starts it again meanwhile
        try:
            while is_held(place.lock("watcher")):
                os.close(own_file(place.stop_request, os.O_WRONLY | os.O_CREAT))
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(f"the embedded PostgreSQL does not stop. Its log: {place.log}")
                time.sleep(0.02)
        finally:
            place.stop_request.unlink(missing_ok=True)
    return True


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL in {place.home} cannot be used: {error.strerror}: {error.filename}. If it "
            "belongs to another account, use that one; or work in another folder, or set DATABASE_URL."
        ) from error


def _answer(place: Place) -> str | None:
    """What the server says to a flow that connects."""
    uid = place.owner if place.is_of_0_1_0 and place.owner is not None else place.account.uid
    return probe(place.socket, ROLE, DATABASE, uid)


def _ensure_running(place: Place, grace: float) -> None:
    if not place.is_of_0_1_0 and is_held(place.lock("watcher")) and _answer(place) in _UP:
        return
    with exclusive(place.lock("start")):
        if place.is_of_0_1_0:
            place = _take_over(place)
        spawned = asked = False
        log_start, deadline = _log_size(place), time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if is_held(place.lock("watcher")):
                answer = _answer(place)
                if answer in _UP:
                    return
                if answer == _NO_SUCH_ROLE and not asked:
                    asked = True
                    if failure := add_role(place):
                        raise DatabaseUnavailable(_failure(place, log_start, f"cannot be upgraded: {failure}"))
                    continue
                if answer not in _COMING:
                    raise DatabaseUnavailable(_failure(place, log_start, f"refuses connections (SQLSTATE {answer})"))
            elif spawned:
                raise DatabaseUnavailable(_failure(place, log_start, "did not start"))
            else:
                spawned = _spawn_watcher(place, grace)
            time.sleep(0.005)
        raise DatabaseUnavailable(_failure(place, log_start, f"was not ready within {_START_SECONDS} s"))


def _take_over(place: Place) -> Place:
    """Once: what an earlier release ran as an account that others share. The place as it is then."""
    if is_held(place.lock("watcher")) or is_held(place.lock("server")):
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL in {place.home} was started by an earlier release, as an account that other "
            "programs may run as. Stop it with `runtime db stop`, and try again."
        )
    with exclusive(place.lock("watcher")), exclusive(place.lock("server")):
        take_over(place)
    return replace(place, owner=place.account.uid)


def _spawn_watcher(place: Place, grace: float) -> bool:
    """Starts a watcher, which starts the server. Returns whether it did; if not, another one is still at work."""
    text = json.dumps(plan(place, bin_dir(place.account), grace))
    if _log_size(place) > _LOG_BYTES:
        place.log.replace(place.log.with_suffix(".log.1"))
    log = own_file(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", str(_WATCHER)],
            env=environment(),
            cwd=place.home,
            input=text.encode(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    return done.returncode != BUSY


def _log_size(place: Place) -> int:
    return place.log.stat().st_size if place.log.exists() else 0


def _failure(place: Place, log_start: int, what: str) -> str:
    text = ""
    if place.log.exists():
        with place.log.open("rb") as log:
            log.seek(min(log_start, _log_size(place)))
            text = log.read().decode(errors="replace")
    lines = "\n  ".join(text.splitlines()[-12:])
    return (
        f"the embedded PostgreSQL in {place.home} {what}. Last lines of {place.log}:\n  {lines}\n"
        "Correct what they complain about, work in another folder, or set DATABASE_URL to a server of yours."
    )
