"""What another account has put where the server's files belong is refused, and left as it is."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, status, stop
from superstep.checkpointer.embedded import place as place_module
from superstep.checkpointer.embedded.accounts import digest
from superstep.checkpointer.embedded.place import find, prepare
from superstep.checkpointer.embedded.probe import probe
from superstep.checkpointer.embedded.trust import made, own_file
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import AS_ROOT, temporary_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHER = 1  # any account that is neither root nor ours


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all may write to, as /tmp is."""
    with temporary_root() as folder:
        folder.chmod(0o1777)
        yield folder


@pytest.fixture
def victim(shared: Path) -> Path:
    """A folder of the caller's that a link may lead to, with what a clean-up would delete."""
    folder = shared / "victim"
    (folder / "init-scripts").mkdir(parents=True)
    (folder / "init-scripts" / "important").write_text("keep")
    folder.chmod(0o755)
    return folder


def of_other(path: Path) -> None:
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def root_of_other(root: Path, _: Path) -> None:
    root.mkdir()
    of_other(root)


def root_as_link(root: Path, victim: Path) -> None:
    root.symlink_to(victim)
    of_other(root)


def home_of_other(root: Path, _: Path) -> None:
    root.mkdir()
    (root / "pg").mkdir()
    of_other(root / "pg")


def home_as_link(root: Path, victim: Path) -> None:
    root.mkdir()
    (root / "pg").symlink_to(victim)
    of_other(root / "pg")


def home_as_link_to_other(root: Path, victim: Path) -> None:
    """A link of ours to a folder that has gone, and that another account has made anew."""
    root.mkdir()
    (root / "pg").symlink_to(victim)
    of_other(victim)


def everything_as_link(root: Path, victim: Path) -> None:
    root.mkdir()
    (root / "pg").symlink_to(victim)
    of_other(root / "pg")
    of_other(root)


@AS_ROOT
@pytest.mark.parametrize(
    "plant",
    [root_of_other, root_as_link, home_of_other, home_as_link, home_as_link_to_other, everything_as_link],
)
def test_what_another_account_has_planted_is_refused(
    shared: Path, victim: Path, plant: Callable[[Path, Path], None]
) -> None:
    root = shared / ".runtime"
    plant(root, victim)
    before = [(each, each.lstat()) for each in sorted(shared.rglob("*"))]
    for use in (EmbeddedServer.acquire, status, stop):
        with pytest.raises(DatabaseUnavailable, match=r"another account.*DATABASE_URL"):
            use(root)
    after = [(each, each.lstat()) for each in sorted(shared.rglob("*"))]
    assert [path for path, _ in after] == [path for path, _ in before]
    assert [(i.st_mode, i.st_uid, i.st_mtime_ns) for _, i in after] == [
        (i.st_mode, i.st_uid, i.st_mtime_ns) for _, i in before
    ]


@AS_ROOT
def test_a_planted_folder_for_sockets_is_passed_over(root: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "STORAGE", (shared,))
    deep = root / ("d" * 90)
    deep.mkdir()
    sockets = Path("/tmp") / f"superstep-{digest(deep / 'pg' / 's')}"
    sockets.mkdir(mode=0o755)
    of_other(sockets)
    try:
        assert prepare(deep).sockets.is_relative_to(shared)
        assert (sockets.stat().st_uid, sockets.stat().st_mode & 0o777) == (OTHER, 0o755)
        deep.joinpath("pg").unlink()
        (deep / "pg" / "data").mkdir(parents=True)  # it was here before: there is no other place for it
        with pytest.raises(DatabaseUnavailable, match="another account"):
            EmbeddedServer.acquire(deep)
    finally:
        sockets.rmdir()


@AS_ROOT
def test_a_planted_folder_for_what_cannot_stay_in_place_is_passed_over(
    root: Path, shared: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shared / "first", shared / "second"
    for each in (first, second):
        each.mkdir(mode=0o1777)
    monkeypatch.setattr(place_module, "STORAGE", (first, second))
    private = root / "private"
    private.mkdir(mode=0o700)
    planted = first / f"superstep-{digest(private / 'pg')}"
    planted.symlink_to(victim)
    of_other(planted)
    assert prepare(private).home == second / planted.name
    assert (victim / "init-scripts" / "important").read_text() == "keep"


def test_a_root_that_others_could_write_to_is_closed_to_them(empty_root: Path) -> None:
    empty_root.chmod(0o777)
    prepare(empty_root)
    assert empty_root.stat().st_mode & 0o7777 == 0o755


@AS_ROOT
def test_a_root_of_root_that_others_can_write_to_is_refused_by_them(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared / ".runtime"
    root.mkdir()
    root.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)  # which is not allowed to forbid it
    with pytest.raises(DatabaseUnavailable, match="other accounts can write"):
        prepare(root)


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_lock_is_an_ordinary_file_of_ours(empty_root: Path, what: str) -> None:
    home = prepare(empty_root).home
    lock = home / "users.lock"
    if what == "link":
        lock.symlink_to(empty_root / "elsewhere")
    elif what == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        EmbeddedServer.acquire(empty_root)
    assert not (empty_root / "elsewhere").exists()


@AS_ROOT
def test_a_file_of_another_account_is_no_file_of_ours(empty_root: Path) -> None:
    file = empty_root / "file"
    file.touch()
    of_other(file)
    with pytest.raises(PermissionError):
        own_file(file, os.O_RDWR)


def test_a_folder_swapped_for_a_link_is_not_followed(empty_root: Path) -> None:
    (empty_root / "target").mkdir(mode=0o755)
    (empty_root / "folder").symlink_to("target")
    with pytest.raises(PermissionError):
        made(empty_root / "folder", 0o700)
    assert (empty_root / "target").stat().st_mode & 0o777 == 0o755


@AS_ROOT
def test_a_server_of_another_account_is_not_spoken_to(empty_root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(empty_root / "socket"))
        listener.listen()
        with pytest.raises(PermissionError, match="another account"):
            probe(empty_root / "socket", "superstep", "superstep", OTHER)


def test_the_watcher_refuses_a_folder_that_is_not_the_one_that_was_checked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superstep.checkpointer.embedded import server as server_module

    def swapped(*args: object) -> dict[str, object]:
        return {**plan(*args), "identity": [0, 0]}  # type: ignore[arg-type]

    plan = server_module.plan
    monkeypatch.setattr(server_module, "plan", swapped)
    with pytest.raises(DatabaseUnavailable, match="not the one that was checked"):
        EmbeddedServer.acquire(root)


def test_a_link_of_ours_is_followed(root: Path) -> None:
    """Someone has moved the data to another disk."""
    place = find(root)
    assert place is not None
    elsewhere = root / "disk"
    shutil.move(place.home, elsewhere)
    (root / "pg").symlink_to(elsewhere)
    with EmbeddedServer.acquire(root) as server:
        assert server.home == elsewhere
