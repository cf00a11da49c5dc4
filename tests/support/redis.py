"""A real redis-server, and as much of its protocol as a reader and a writer need.

It comes from Debian's package of that name, which `make test` installs where it may. Elsewhere its tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Redis", "redis_server"]

_SECONDS = 20.0  # until it listens


@contextmanager
def redis_server() -> Iterator[Path]:
    """The socket of a server that keeps nothing on disk, and is gone at the end."""
    program = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    folder = Path(tempfile.mkdtemp(prefix="superstep-redis-"))
    socket = folder / "socket"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _SECONDS
        while not socket.exists():
            assert server.poll() is None, "redis-server has ended"
            assert time.monotonic() < until, "redis-server does not listen"
            time.sleep(0.01)
        yield socket
    finally:
        server.terminate()
        server.wait(_SECONDS)
        shutil.rmtree(folder)


class Redis:
    """A connection to a server, one command at a time."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def do(self, *words: object) -> str | None:
        """A command, and its answer: a text, a number as a text, or nothing."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            parts = [str(word).encode() for word in words]
            writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            await writer.drain()
            line = (await reader.readline()).decode().rstrip()
            if line.startswith("-"):
                raise RuntimeError(line)
            if not line.startswith("$"):
                return line[1:]
            if (length := int(line[1:])) < 0:
                return None
            return (await reader.readexactly(length + 2))[:-2].decode()
        finally:
            writer.close()
            await writer.wait_closed()
