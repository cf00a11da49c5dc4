"""A second PostgreSQL whose changes can be replicated: `wal_level = logical`, reached over TCP on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from superstep.checkpointer.embedded.accounts import Account
from superstep.checkpointer.embedded.binaries import bin_dir

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ledger(wal_level: str = "logical") -> Iterator[str]:
    """The URL of its database; gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="superstep-ledger-"))
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    account = Account(user.pw_uid, user.pw_gid, switch=os.geteuid() == 0)
    if account.switch:
        os.chown(root, account.uid, account.gid)
    programs = bin_dir(account)
    as_account = {"user": account.uid, "group": account.gid, "extra_groups": []} if account.switch else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    create = [programs / "initdb", "-D", root / "data", "--username=postgres", "--auth=trust", "--no-sync"]
    subprocess.run(create, cwd=root, check=True, stdout=subprocess.DEVNULL, **as_account)
    settings = {"wal_level": wal_level, "listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    settings |= {"unix_socket_directories": root, "max_wal_senders": 4, "max_replication_slots": 4}
    command = [programs / "postgres", "-D", root / "data", *(f"--{name}={value}" for name, value in settings.items())]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with (
        (root / "log").open("wb") as log,
        subprocess.Popen(command, cwd=root, stdout=log, stderr=log, **as_account) as server,
    ):
        try:
            _await(url, server)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
    shutil.rmtree(root, ignore_errors=True)


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the ledger's server did not start"
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return
