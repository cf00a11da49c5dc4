"""The command lines of the embedded PostgreSQL, as a plan that the watcher carries out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

from superstep.checkpointer.embedded.accounts import named_account
from superstep.checkpointer.embedded.place import DATABASE, PORT, ROLE, SUPERUSER
from superstep.checkpointer.embedded.watcher import NEW_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from superstep.checkpointer.embedded.place import Place

__all__ = ["Plan", "plan"]

_INITDB = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    # The built-in provider sorts the same on every machine and survives updates of the C library.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    # Every account that can enter the socket's folder (mode 0700) is let in.
    "--auth-local=trust",
    "--auth-host=reject",
    "--no-instructions",
)

# On the command line, so that data created by an older release runs with the settings of this one.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    # Short statements on one machine: workers would only cost memory and processes.
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    # Every super-step is serializable; twice the default keeps predicate locks of many flows from being merged.
    "max_pred_locks_per_transaction": "128",
    # Small containers give 64 MB of /dev/shm; building a vector index in parallel needs more.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}


# One command a line. New databases are copies of template1, so all have the extension, which only a superuser makes.
_CREATE = f"""CREATE EXTENSION vector
CREATE ROLE {ROLE} LOGIN CREATEDB
CREATE DATABASE {DATABASE} OWNER {ROLE}
"""


class Plan(TypedDict):
    """What the watcher is told; it reads this as JSON and imports nothing of ours."""

    home: str
    identity: list[int]
    user: int | None
    group: int | None
    named: int | None
    initdb: list[str]
    create: list[str]
    create_sql: str
    postgres: list[str]
    environment: dict[str, str]
    grace: float
    sockets: str


def plan(place: Place, programs: Path, grace: float) -> Plan:
    """Says how to create and run the server of `place`.

    Args:
        place: the server's files and account.
        programs: what `bin_dir` returned for that account.
        grace: seconds that the server stays up after its last user is gone.
    """
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    settings.append(f"--unix_socket_directories={place.sockets}")
    account = place.account
    home = place.home.stat()
    return Plan(
        home=str(place.home),
        identity=[home.st_dev, home.st_ino],
        user=account.uid if account.switch else None,
        group=account.gid if account.switch else None,
        named=named_account() if account.switch else None,
        initdb=[str(programs / "initdb"), "-D", NEW_DATA, *_INITDB],
        create=[str(programs / "postgres"), "--single", "-D", NEW_DATA, "--log_checkpoints=off", "template1"],
        create_sql=_CREATE,
        postgres=[str(programs / "postgres"), "-D", str(place.data), *settings],
        environment=environment(),
        grace=grace,
        sockets=str(place.sockets),
    )


def environment() -> dict[str, str]:
    """What the server sees of the caller's environment: nothing that could be a secret or change its behaviour."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C"}
