"""Where a server's data and sockets are, and who can enter."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, bin_dir, stop
from superstep.checkpointer.embedded.accounts import Account, digest
from superstep.checkpointer.embedded.place import can_enter, find, prepare
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import (
    AS_ROOT,
    PROJECT,
    ask,
    until,
)


def test_only_the_server_account_can_enter_data_and_sockets(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
        for folder in (place.data, place.sockets):
            assert folder.stat().st_mode & 0o777 == 0o700
            assert folder.stat().st_uid == place.account.uid
        assert place.log.stat().st_mode & 0o777 == 0o600


def test_a_path_too_long_for_a_socket_is_no_obstacle(root: Path) -> None:
    deep = root / ("d" * 90)
    deep.mkdir()
    with EmbeddedServer.acquire(deep) as server:
        assert ask(server.url, "SELECT 1") == 1
        place = find(deep)
        assert place is not None
        assert place.sockets.stat().st_mode & 0o777 == 0o700
    stop(deep)
    shutil.rmtree(place.sockets)


def test_odd_characters_in_the_path(root: Path) -> None:
    odd = root / "a b%20ü&c"
    with EmbeddedServer.acquire(odd) as server:
        assert ask(server.url, "SELECT 1") == 1
    stop(odd)


@AS_ROOT
class TestAsRoot:
    """What is different when PostgreSQL has to run as another account."""

    def test_a_folder_that_nobody_may_enter_gets_a_link_and_keeps_its_mode(self, root: Path) -> None:
        private = root / "private"
        private.mkdir(mode=0o700)
        with EmbeddedServer.acquire(private / ".runtime") as server:
            assert ask(server.url, "SELECT 1") == 1
            link = private / ".runtime" / "pg"
            home = link.resolve()
            assert link.is_symlink()
            assert home.name == f"superstep-{digest(link)}"
        with EmbeddedServer.acquire(private / ".runtime") as again:
            assert again.url == server.url
        stop(private / ".runtime")
        assert private.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(home)

    def test_a_deleted_link_target_is_made_anew(self, root: Path) -> None:
        private = root / "private"
        private.mkdir(mode=0o700)
        with EmbeddedServer.acquire(private):
            home = (private / "pg").resolve()
        stop(private)
        shutil.rmtree(home)
        with EmbeddedServer.acquire(private) as server:
            assert ask(server.url, "SELECT 1") == 1
        stop(private)
        shutil.rmtree(home)

    def test_an_ordinary_user_needs_none_of_this(self, root: Path) -> None:
        entry = pwd.getpwnam("nobody")
        account = Account(entry.pw_uid, entry.pw_gid, switch=True)
        mine = root / "mine"
        mine.mkdir()
        os.chown(mine, account.uid, account.gid)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        interpreters = [Path(sys.executable), *Path("/usr/bin").glob(version), *Path("/usr/local/bin").glob(version)]
        interpreter = next((each for each in interpreters if can_enter(each.resolve().parent, account)), None)
        if interpreter is None or not all(can_enter(Path(each), account) for each in (PROJECT, bin_dir())):
            pytest.skip("Python or this project is out of the reach of ordinary users")
        program = "import superstep.checkpointer.embedded as e; s = e.EmbeddedServer.acquire(grace=0.3); print(s.home)"
        done = subprocess.run(
            [str(interpreter), "-c", program],
            cwd=mine,
            env={
                "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)]),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(mine / ".runtime" / "pg")
        # Root does not build on what belongs to a user, and leaves it as it is.
        for use in (EmbeddedServer.acquire, stop):
            with pytest.raises(DatabaseUnavailable, match="belongs to another account"):
                use(mine / ".runtime")
        until(lambda: not (mine / ".runtime" / "pg" / "data" / "postmaster.pid").exists())
        assert not [each for each in (mine / ".runtime").rglob("*") if each.lstat().st_uid != account.uid]


class TestGit:
    """`.runtime` is no part of a project's history."""

    def ignored(self, folder: Path) -> bool:
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        look = f"git -C {folder} -c safe.directory={folder} status --porcelain --untracked-files=all"
        status = subprocess.run(look.split(), capture_output=True, text=True, check=True)
        return ".runtime" not in status.stdout

    def test_it_ignores_itself(self, empty_root: Path) -> None:
        prepare(empty_root / ".runtime")
        (empty_root / ".runtime" / "pg" / "server.log").write_text("")
        assert self.ignored(empty_root)

    def test_also_one_that_an_earlier_release_made(self, empty_root: Path) -> None:
        (empty_root / ".runtime" / "pg").mkdir(parents=True)
        (empty_root / ".runtime" / "pg" / "server.log").write_text("")
        prepare(empty_root / ".runtime")
        assert self.ignored(empty_root)

    def test_a_root_with_files_of_others_is_left_alone(self, empty_root: Path) -> None:
        (empty_root / "main.py").write_text("")
        (empty_root / ".gitignore").write_text("*.pyc\n")
        prepare(empty_root)
        assert (empty_root / ".gitignore").read_text() == "*.pyc\n"
        (empty_root / ".gitignore").unlink()
        prepare(empty_root)
        assert not (empty_root / ".gitignore").exists()
