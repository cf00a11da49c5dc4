"""Where an embedded server keeps its files, and as which account it runs.

`<root>/pg` is the server's home. As an ordinary user that is all there is to it. PostgreSQL refuses to run as root, so
for root the server runs as `nobody` (or as the owner of existing data); if `nobody` may not enter one of the folders
above, or the file system has no owners and modes, the home is a folder in `/var/lib` or `/var/tmp` and `<root>/pg` is a
link to it. Permissions of folders above the home are never changed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from superstep.runtime.faults import DatabaseUnavailable

if sys.platform != "win32":
    import pwd

__all__ = ["DATABASE", "STORAGE", "Account", "Place", "can_enter", "digest", "find", "prepare"]

DATABASE = "superstep"
STORAGE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - for what cannot stay in place; owners are checked
PORT = 5432  # names the socket file; nothing listens on the network
_SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 104 bytes on macOS, 108 on Linux, the final zero included


@dataclass(frozen=True, slots=True)
class Account:
    """The operating-system account a server runs as; `switch` says that it is not the caller's."""

    uid: int
    gid: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one server."""

    home: Path
    account: Account

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server and its watcher have to say."""
        return self.home / "server.log"

    def lock(self, name: str) -> Path:
        """One of the lock files described in `locks`."""
        return self.home / f"{name}.lock"

    @property
    def stop_request(self) -> Path:
        """The watcher stops the server when this file appears."""
        return self.home / "stop"

    @property
    def sockets(self) -> Path:
        """A folder that only the server's account and root can enter, with a path short enough for a socket."""
        inside = self.home / "s"
        longest = len(os.fsencode(inside / f".s.PGSQL.{PORT}"))
        return inside if longest <= _SOCKET_PATH_LIMIT else Path("/tmp") / f"superstep-{digest(inside)}"  # noqa: S108 - checked by ensure_dir

    @property
    def socket(self) -> Path:
        """The socket itself."""
        return self.sockets / f".s.PGSQL.{PORT}"

    @property
    def url(self) -> str:
        """A connection string that asyncpg and libpq both understand. The port is there to override `PGPORT`."""
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self.sockets))}&port={PORT}"


def find(root: Path) -> Place | None:
    """The place of a server that was prepared under `root` before, or `None`. Creates nothing."""
    home = Path(os.path.realpath(root / "pg"))
    return Place(home, _account(home)) if home.is_dir() else None


def prepare(root: Path) -> Place:
    """Creates what is missing of the folders for a server under `root`. Safe to run concurrently.

    Raises:
        DatabaseUnavailable: no folder can be had that the server's account may use.
    """
    link = Path(os.path.abspath(root)) / "pg"  # noqa: PTH100 - resolve() would follow links the user chose
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        home = Path(os.path.realpath(link))
        account = _account(home)
        place = Place(home, account) if link.is_symlink() else _choose(link, account)
        _make(place)
    except OSError as error:
        raise DatabaseUnavailable(
            f"no folder for the embedded PostgreSQL: {error.strerror}: {error.filename}. "
            "Make it accessible, work in another folder, or set DATABASE_URL to a server of yours."
        ) from error
    return place


def can_enter(folder: Path, account: Account) -> bool:
    """Says whether the mode bits of `folder` and of everything above it let `account` pass."""
    for each in (folder, *folder.parents):
        info = each.stat()
        if info.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif info.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not info.st_mode & bit:
            return False
    return True


def digest(path: Path) -> str:
    """A short name for an absolute path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _choose(link: Path, account: Account) -> Place:
    """The place for a root that has no link yet: in the root if that works, else elsewhere with a link to it."""
    here = Place(link, account)
    if can_enter(link.parent, account):
        try:
            _make(here)
        except PermissionError:
            if here.data.exists():
                raise
            shutil.rmtree(link, ignore_errors=True)
        else:
            return here
    for folder in STORAGE:
        there = Place(folder / f"superstep-{digest(link)}", account)
        try:
            _make(there)
        except OSError:
            continue
        try:
            link.symlink_to(there.home)
        except FileExistsError:  # another command was quicker
            if not link.is_symlink():
                raise
        return there
    raise PermissionError(errno.EACCES, "the server's account can enter no folder for it", str(link))


def _make(place: Place) -> None:
    # The account passes through the home but owns nothing in it: locks, log and links stay out of its reach.
    _ensure_dir(place.home, 0o711 if place.account.switch else 0o700, place.account, give=False)
    _ensure_dir(place.sockets, 0o700, place.account, give=True)


def _ensure_dir(path: Path, mode: int, account: Account, *, give: bool) -> None:
    """Makes `path` a folder with exactly this mode; `give` makes the account its owner.

    Raises:
        PermissionError: it exists and is another account's, is a link, or the file system keeps no owners and modes.
    """
    path.mkdir(mode=mode, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in {os.geteuid(), account.uid}:
        raise PermissionError(errno.EACCES, "it belongs to another account", str(path))
    if stat.S_IMODE(info.st_mode) != mode:
        path.chmod(mode)
    if give and info.st_uid != account.uid:
        os.chown(path, account.uid, account.gid)
    info = path.lstat()
    if stat.S_IMODE(info.st_mode) != mode or (give and info.st_uid != account.uid):
        raise PermissionError(errno.EACCES, "its file system does not keep owners and modes", str(path))


def _account(home: Path) -> Account:
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), switch=False)
    with contextlib.suppress(FileNotFoundError):
        owner = (home / "data").stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid, switch=True)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534, switch=True)
    return Account(entry.pw_uid, entry.pw_gid, switch=True)
