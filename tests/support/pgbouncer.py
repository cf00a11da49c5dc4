"""A real pgbouncer in transaction mode, in front of the server under test.

It comes from Debian's package of that name, which `make test` installs where it may. Elsewhere its tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from superstep.checkpointer.database.url import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SERVERS = 2  # connections to the server that all clients share


def _program() -> str:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    return found


@contextmanager
def pgbouncer(
    server_url: str,
    *,
    ignore: str = "",
    mode: str = "transaction",
    tls: Mapping[str, bytes | str] = MappingProxyType({}),
) -> Iterator[str]:
    """A running pgbouncer: the URL of the same database through it.

    Args:
        server_url: of a database of the server.
        ignore: `ignore_startup_parameters`.
        mode: `pool_mode`.
        tls: its settings `client_tls_...`, without that prefix. What is bytes is the content of the file to name.
    """
    program, address = _program(), parse(server_url)
    (host, port), *_ = address.hosts
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="superstep-pgbouncer-"))
    folder.chmod(0o755)
    config = folder / "pgbouncer.ini"
    login = f"user={address.user or 'postgres'}" + (f" password={address.password}" if address.password else "")
    config.write_text(
        f"[databases]\n* = host={host} port={port or 5432} {login}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {_SERVERS}\nmax_client_conn = 200\n"
        f"ignore_startup_parameters = {ignore}\n{_tls(tls, folder)}"
    )
    config.chmod(0o644)
    process = subprocess.Popen([program, "-q", str(config)], stderr=subprocess.PIPE, **_account(host))
    try:
        _wait_for(listen, process)
        yield f"postgresql://anybody@127.0.0.1:{listen}{urlsplit(server_url).path}"
    finally:
        process.terminate()
        process.communicate(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def _tls(given: Mapping[str, bytes | str], folder: Path) -> str:
    lines = []
    for name, value in given.items():
        if isinstance(value, bytes):
            file = folder / name
            file.write_bytes(value)
            file.chmod(0o644)  # certificates of a test, read by another account
        lines.append(f"client_tls_{name} = {file if isinstance(value, bytes) else value}\n")
    return "".join(lines)


def _account(host: str) -> dict[str, Any]:
    """It refuses to be root. Run by root it is whom the folder of the server's socket belongs to."""
    if os.geteuid() != 0:
        return {}
    if not host.startswith("/"):
        return {"user": "nobody"}
    return {"user": Path(host).stat().st_uid, "group": Path(host).stat().st_gid, "extra_groups": []}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"pgbouncer has ended: {process.stderr.read().decode() if process.stderr else ''}")
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("pgbouncer does not listen")
