"""Processes that use, watch and serve the embedded server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from superstep.checkpointer.embedded import bin_dir, status, stop
from superstep.checkpointer.embedded.locks import is_held
from superstep.checkpointer.embedded.place import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from superstep.checkpointer.embedded.place import Place


PROJECT = Path(__file__).parents[3]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
GRACE = 0.3
USER = """
import sys
from contextlib import contextmanager
from pathlib import Path
from superstep.checkpointer.embedded import EmbeddedServer
server = EmbeddedServer.acquire(Path(sys.argv[1]), grace=float(sys.argv[2]))
print(server.url, flush=True)
sys.stdin.read()
"""


@contextmanager
def temporary_root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="superstep-root-"))
    folder.chmod(0o755)  # run by root, the server is another user
    try:
        yield folder
    finally:
        stop(folder)
        shutil.rmtree(folder)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def as_account(place: Place) -> dict[str, Any]:
    account = place.account
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account.switch else {}


def by_hand(place: Place) -> subprocess.Popen[bytes]:
    """A server that somebody starts on our data without asking us."""
    command = [f"{bin_dir(place.account)}/postgres", "-D", str(place.data), "-k", str(place.data), "-h", ""]
    process: subprocess.Popen[bytes] = subprocess.Popen(command, stderr=subprocess.DEVNULL, **as_account(place))
    until((place.data / place.socket.name).exists)
    return process


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def postmaster(root: Path) -> int:
    pid = status(root).pid
    assert pid is not None
    return pid


def watcher(root: Path) -> int:
    shown = subprocess.run(["ps", "-o", "ppid=", "-p", str(postmaster(root))], capture_output=True, check=True)
    return int(shown.stdout)


def is_gone(root: Path) -> bool:
    """No watcher, no server and no backend is left."""
    place = find(root)
    return place is None or not (is_held(place.lock("watcher")) or is_held(place.lock("server")))
