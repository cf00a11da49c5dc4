"""Folders that no other account can change, opened so that a planted link or a swap leads nowhere.

Each is opened without following a link, and what is checked and changed afterwards is what was opened, not what its
path may name by then. An owner is trusted that is the caller or root: root can read and change everything anyway.

Folders above those of the server are not looked at. Whoever may rename entries in one of them can take the server's
folder away, but has no folder of ours to put in its place.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from superstep.checkpointer.embedded.accounts import Account

__all__ = ["keep_to_us", "link_of_ours", "made", "opened", "own_file", "trusted"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_OTHERS = 0o022  # who else may write


def trusted() -> set[int]:
    """The accounts that may own what the server is built on."""
    return {os.geteuid(), 0}


@contextmanager
def opened(path: Path, owners: set[int] | None, *, within: int | None = None) -> Iterator[int]:
    """The descriptor of a folder that one of `owners` has.

    Args:
        path: the folder, for messages; without `within`, also where it is.
        owners: who may have it; `None`: whoever it was given to, in a folder that only we put things in.
        within: the folder it is in.

    Raises:
        PermissionError: it is another account's, a link, or no folder.
        FileNotFoundError: there is none.
    """
    try:
        fd = os.open(path if within is None else path.name, _FOLDER, dir_fd=within)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise PermissionError(errno.EACCES, "it is a link, or no folder", str(path)) from error
        raise
    try:
        if owners is not None:
            _refuse_others(os.fstat(fd), owners, path)
        yield fd
    finally:
        os.close(fd)


def made(path: Path, mode: int, *, within: int | None = None, give: Account | None = None) -> None:
    """Make `path` a folder of the caller's, or of the account it is given to, with exactly this mode.

    What is given away `within` a folder of ours may have been given to another account before.

    Raises:
        PermissionError: it exists and is another account's, is a link, or the file system keeps no owners and modes.
    """
    with suppress(FileExistsError):
        os.mkdir(path if within is None else path.name, mode, dir_fd=within)
    owners = {os.geteuid()} if give is None else {os.geteuid(), give.uid} if within is None else None
    with opened(path, owners, within=within) as fd:
        info = os.fstat(fd)
        if stat.S_IMODE(info.st_mode) != mode:
            os.fchmod(fd, mode)
        if give is not None and (info.st_uid, info.st_gid) != (give.uid, give.gid) and give.switch:
            os.fchown(fd, give.uid, give.gid)
        info = os.fstat(fd)
        if stat.S_IMODE(info.st_mode) != mode or (give is not None and info.st_uid != give.uid):
            raise PermissionError(errno.EACCES, "its file system does not keep owners and modes", str(path))


def keep_to_us(fd: int, path: Path) -> None:
    """Let no other account write to an open folder.

    Raises:
        PermissionError: others may, and it is not ours to forbid. A sticky folder is good enough: what we make in it,
            nobody else can rename or delete.
    """
    info = os.fstat(fd)
    if not info.st_mode & _OF_OTHERS or info.st_mode & stat.S_ISVTX:
        return
    if info.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, "other accounts can write to it", str(path))
    os.fchmod(fd, stat.S_IMODE(info.st_mode) & ~_OF_OTHERS)


def link_of_ours(path: Path, *, within: int | None = None) -> bool:
    """Whether `path` is a link, and then one that may be followed.

    Raises:
        PermissionError: it is a link that another account made.
        FileNotFoundError: there is nothing.
    """
    info = os.stat(path if within is None else path.name, dir_fd=within, follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        _refuse_others(info, trusted(), path)
    return stat.S_ISLNK(info.st_mode)


def own_file(path: Path, flags: int) -> int:
    """Open a file of the caller's, mode 0600 if it is made here.

    Raises:
        PermissionError: it is another account's, a link, or no ordinary file.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise PermissionError(errno.EACCES, "it is a link, or no ordinary file", str(path)) from error
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EACCES, "it is not an ordinary file of this account", str(path))
    return fd


def _refuse_others(info: os.stat_result, owners: set[int], path: Path) -> None:
    if info.st_uid not in owners:
        raise PermissionError(errno.EACCES, f"it belongs to another account (uid {info.st_uid})", str(path))
