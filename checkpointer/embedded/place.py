"""Where an embedded server keeps its files.

`<root>/pg` is the server's home. As an ordinary user that is all there is to it. For root the server runs as an account
of its own (`accounts`); if that may not enter one of the folders above, or the file system has no owners and modes, the
home is a folder in `/var/lib` or `/var/tmp` and `<root>/pg` is a link to it. Permissions of folders above the root are
never changed.

Nothing that another account has put there is used: no root, no home, no link, and nothing in them (`trust`).
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from superstep.checkpointer.embedded.accounts import Account, account, digest
from superstep.checkpointer.embedded.trust import keep_to_us, link_of_ours, made, opened, trusted
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DATABASE", "ROLE", "STORAGE", "Place", "can_enter", "find", "prepare"]

DATABASE = "superstep"
ROLE = "superstep"  # flows connect as this role, which owns the database and is no superuser
SUPERUSER = "postgres"
STORAGE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - for what cannot stay in place; owners are checked
PORT = 5432  # names the socket file; nothing listens on the network
_SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 104 bytes on macOS, 108 on Linux, the final zero included


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one server.

    Attributes:
        home: the folder they are in.
        account: what the server runs as.
        owner: whose the data is, if there is any.
    """

    home: Path
    account: Account
    owner: int | None = None

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
        return inside if longest <= _SOCKET_PATH_LIMIT else Path("/tmp") / f"superstep-{digest(inside)}"  # noqa: S108 - checked by `made`

    @property
    def socket(self) -> Path:
        """The socket itself."""
        return self.sockets / f".s.PGSQL.{PORT}"

    @property
    def url(self) -> str:
        """A connection string that asyncpg and libpq both understand. The port is there to override `PGPORT`."""
        return self._url(ROLE)

    @property
    def admin_url(self) -> str:
        """The same as the superuser: for other databases, extensions and roles, never for flows."""
        return self._url(SUPERUSER)

    def _url(self, role: str) -> str:
        return f"postgresql://{role}@/{DATABASE}?host={quote(str(self.sockets))}&port={PORT}"

    @property
    def is_of_0_1_0(self) -> bool:
        """Whether root's server has run as an account that others share: its files have to be taken over first."""
        return self.account.switch and self.owner not in (None, self.account.uid)


def find(root: Path) -> Place | None:
    """The place of a server that was prepared under `root` before, or `None`. Creates and changes nothing.

    Raises:
        DatabaseUnavailable: what is there belongs to another account.
    """
    with _explained():
        try:
            with _opened_root(root) as (fd, folder):
                link_of_ours(folder / "pg", within=fd)
                return _there(Path(os.path.realpath(folder / "pg")))
        except FileNotFoundError:
            return None


def prepare(root: Path) -> Place:
    """Creates what is missing of the folders for a server under `root`. Safe to run concurrently.

    Raises:
        DatabaseUnavailable: no folder can be had that the server's account may use, or what is there belongs to another
            account.
    """
    with _explained():
        root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links the user chose
        root.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            root.mkdir()
        with _opened_root(root) as (fd, folder):
            keep_to_us(fd, folder)
            try:
                is_link = link_of_ours(folder / "pg", within=fd)
            except FileNotFoundError:
                is_link = False
            home = Path(os.path.realpath(folder / "pg"))
            place = _place(home) if is_link else _choose(fd, root / "pg", _place(home))
            _make(place)
            _keep_out_of_git(fd)
            return place


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseUnavailable(
            f"no folder for the embedded PostgreSQL: {error.strerror}: {error.filename}. Make it accessible and your "
            "own, work in another folder, or set DATABASE_URL to a server of yours."
        ) from error


@contextmanager
def _opened_root(root: Path) -> Iterator[tuple[int, Path]]:
    """The root, which may be a link of ours to a folder elsewhere."""
    root = Path(os.path.abspath(root))  # noqa: PTH100 - as above
    folder = Path(os.path.realpath(root)) if link_of_ours(root) else root
    with opened(folder, trusted()) as fd:
        yield fd, folder


def _there(home: Path) -> Place:
    """The place of a home that exists."""
    with opened(home, {os.geteuid()}) as fd:
        try:
            with opened(home / "data", None, within=fd) as data:
                owner: int | None = os.fstat(data).st_uid
        except FileNotFoundError:
            owner = None
        return Place(home, account(home, owner), owner)


def _place(home: Path) -> Place:
    try:
        return _there(home)
    except FileNotFoundError:
        return Place(home, account(home, None))


def _keep_out_of_git(root: int) -> None:
    """Lets git ignore an open folder, whatever the project's own rules are; only if all that is in it is ours."""
    if set(os.listdir(root)) <= {"pg"}:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with suppress(FileExistsError), os.fdopen(os.open(".gitignore", flags, 0o644, dir_fd=root), "w") as rules:
            rules.write("*\n")


def can_enter(folder: Path, account: Account) -> bool:
    """Says whether the mode bits of `folder` and of everything above it let `account` pass."""
    for each in (folder, *folder.parents):
        info = each.stat()
        if info.st_uid == account.uid:
            bit = 0o100
        elif info.st_gid == account.gid:
            bit = 0o010
        else:
            bit = 0o001
        if not info.st_mode & bit:
            return False
    return True


def _choose(root: int, link: Path, here: Place) -> Place:
    """The place for a root that has no link yet: in the root if that works, else elsewhere with a link to it."""
    if can_enter(here.home.parent, here.account):
        try:
            _make(here, within=root)
        except PermissionError:
            if here.data.exists() or not _is_ours(here.home):
                raise
            shutil.rmtree(here.home, ignore_errors=True)
        else:
            return here
    for folder in STORAGE:
        there = folder / f"superstep-{digest(link)}"
        try:
            place = _place(there)
            _make(place)
        except OSError:
            continue
        try:
            os.symlink(there, "pg", dir_fd=root)
        except FileExistsError:  # another command was quicker
            if not link_of_ours(link, within=root):
                raise
        return place
    raise PermissionError(errno.EACCES, "the server's account can enter no folder for it", str(link))


def _is_ours(home: Path) -> bool:
    with suppress(OSError), opened(home, {os.geteuid()}):
        return True
    return False


def _make(place: Place, *, within: int | None = None) -> None:
    # The account passes through the home but owns nothing in it: locks, log and links stay out of its reach.
    made(place.home, 0o711 if place.account.switch else 0o700, within=within)
    with ExitStack() as stack:
        inside = place.sockets.parent == place.home
        fd = stack.enter_context(opened(place.home, {os.geteuid()})) if inside else None
        if not place.is_of_0_1_0:  # else a server may be using them still
            made(place.sockets, 0o700, within=fd, give=place.account)
