"""Asks a server over its socket whether it accepts connections, with the first message of the protocol and no driver.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OK", "probe"]

OK = "00000"
_PROTOCOL_3_0 = 196608


def probe(path: Path, role: str, database: str, uid: int, timeout: float = 5) -> str | None:
    """Connects as a role and disconnects.

    Returns:
        The SQLSTATE that the server answers with (`OK` when the connection is ready for a query), or `None` if no
        answer comes within `timeout` seconds.

    Raises:
        PermissionError: the process that listens there is not of the account `uid`. Known on Linux only.
    """
    parameters = f"user\0{role}\0database\0{database}\0\0".encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            _refuse_others(connection, uid, path)
            connection.sendall(struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3_0) + parameters)
            with connection.makefile("rb") as answer:
                while header := answer.read(5):
                    kind, length = struct.unpack("!ci", header)
                    body = answer.read(length - 4)
                    if kind == b"E":
                        return _sqlstate(body)
                    if kind == b"Z":  # ReadyForQuery
                        connection.sendall(struct.pack("!ci", b"X", 4))
                        return OK
        except PermissionError:
            raise
        except (OSError, struct.error):
            return None
    return None


def _refuse_others(connection: socket.socket, uid: int, path: Path) -> None:
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, owner, _ = struct.unpack("iII", credentials)
        if owner != uid:
            raise PermissionError(errno.EACCES, f"another account's server (uid {owner}) listens there", str(path))


def _sqlstate(body: bytes) -> str:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0")}
    return fields.get(b"C", "XX000")
