"""What has to happen once to a cluster that 0.1.0 made, before a server of today may serve it.

*Its account.* Run by root, 0.1.0 ran the server as `nobody`, which any process may be. The data is given to the
server's own account, see `accounts`.

*Its role.* Flows connected as the superuser. They get a role that is none, which owns what is there (`flow_role.sql`).
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from superstep.checkpointer.embedded.accounts import named_account
from superstep.checkpointer.embedded.binaries import bin_dir
from superstep.checkpointer.embedded.cluster import environment
from superstep.checkpointer.embedded.place import DATABASE, PORT, ROLE, SUPERUSER
from superstep.checkpointer.embedded.trust import opened

if TYPE_CHECKING:
    from superstep.checkpointer.embedded.place import Place

__all__ = ["add_role", "take_over"]

_SQL = Path(__file__).with_name("flow_role.sql")


def take_over(place: Place) -> None:
    """Give data and sockets to the server's account. No server may be running on them.

    A folder changes hands before what is in it, so whoever had it can put nothing more there, and what is found stays
    what it is. Only what belonged to the account before changes hands: a hard link to somebody else's file, say, gives
    nothing away. The data folder itself is root's until all the rest is done, so what was interrupted is done again.

    Raises:
        PermissionError: something in the data belongs to a third account.
    """
    before = {named_account(), 65534, *([place.owner] if place.owner else [])}
    uid, gid = place.account.uid, place.account.gid
    with opened(place.home, {os.geteuid()}) as home, opened(place.data, {0, *before}, within=home) as data:
        os.fchown(data, 0, 0)
        if place.sockets.exists():
            with opened(place.sockets, {0, uid, *before}) as sockets:
                os.fchown(sockets, uid, gid)
                _give(sockets, place.sockets, before, uid, gid)
        _give(data, place.data, before, uid, gid)
        os.fchown(data, uid, gid)


def _give(folder: int, path: Path, before: set[int], uid: int, gid: int) -> None:
    """Give away what is in an open folder that has changed hands already."""
    for name in os.listdir(folder):
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if info.st_uid not in {uid, *before}:
            raise PermissionError(errno.EACCES, f"it belongs to a third account (uid {info.st_uid})", str(path / name))
        if stat.S_ISDIR(info.st_mode):
            with opened(path / name, {uid, *before}, within=folder) as inner:
                os.fchown(inner, uid, gid)
                _give(inner, path / name, before, uid, gid)
        else:
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)


def add_role(place: Place) -> str:
    """Add the role of flows to the running server. What psql had to say: nothing if all went well."""
    psql = [str(bin_dir() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
    target = [f"--host={place.sockets}", f"--port={PORT}", f"--username={SUPERUSER}", f"--dbname={DATABASE}"]
    names = [f"--set=role={ROLE}", f"--set=database={DATABASE}"]
    done = subprocess.run(  # noqa: S603 - our own programs and file
        [*psql, *target, *names, "--no-password", f"--file={_SQL}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""
