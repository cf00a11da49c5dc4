"""Servers in processes of their own: started, waited for, and ended with all that they have started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["free_port", "runtime_toml", "serving"]

_UNTIL_READY = 180.0  # seconds; on a machine that is busy with other tests too
_UNTIL_ENDED = 20.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def runtime_toml(openai_url: str) -> str:
    """Settings with a route `fast` to one deployment."""
    return (
        f'[[models.fast.deployments]]\nprovider = "openai-compatible"\nmodel = "m-1"\nbase_url = "{openai_url}"\n'
        "retries = 0\n"
    )


@contextmanager
def serving(
    command: Sequence[str], *, folder: Path, url: str, ready: str, env: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """A server that runs in a folder, once it answers a GET of the path `ready`. Gives the file with what it prints.

    Raises:
        AssertionError: it ended before, or did not answer; with what it printed.
    """
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(server, f"{url}{ready}", log)
        yield log
    finally:
        _end(server)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    latest = time.monotonic() + _UNTIL_READY
    while True:
        assert server.poll() is None, f"The server has ended:\n{log.read_text(errors='replace')}"
        assert time.monotonic() < latest, f"The server does not answer:\n{log.read_text(errors='replace')}"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)  # between two looks


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then end it and what it has started."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_UNTIL_ENDED)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
