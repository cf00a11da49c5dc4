"""The operating-system account of root's server: nobody else's."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, bin_dir, stop
from superstep.checkpointer.embedded import accounts as accounts_module
from superstep.checkpointer.embedded.accounts import account, is_shared
from superstep.checkpointer.embedded.place import find
from tests.checkpointer.embedded.processes import AS_ROOT, ask, postmaster, temporary_root

pytestmark = AS_ROOT


def test_no_process_of_nobody_can_reach_the_server(empty_root: Path) -> None:
    with EmbeddedServer.acquire(empty_root) as server:
        place = find(empty_root)
        assert place is not None
        uid = place.account.uid
        with pytest.raises(KeyError):
            pwd.getpwuid(uid)
        running = Path(f"/proc/{postmaster(empty_root)}/status").read_text().splitlines()
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in running
        assert f"Gid:\t{uid}\t{uid}\t{uid}\t{uid}" in running
        assert {each.lstat().st_uid for each in (place.data, *place.data.rglob("*"))} == {uid}
        assert {each.lstat().st_gid for each in (place.data, *place.data.rglob("*"))} == {uid}
        nobody = pwd.getpwnam("nobody")
        command = [f"{bin_dir(place.account)}/psql", server.admin_url, "-c", "SELECT 1"]
        asked = subprocess.run(
            command, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], capture_output=True, text=True
        )
        assert "Permission denied" in asked.stderr
        assert ask(server.url, "SELECT 1") == 1


def test_while_a_cluster_is_created_no_process_of_nobody_can_enter(empty_root: Path) -> None:
    """The programs that create it run as a named account, in a group that no other process is in."""
    from superstep.checkpointer.embedded.cluster import plan
    from superstep.checkpointer.embedded.place import prepare
    from superstep.checkpointer.embedded.watcher import Server

    place = prepare(empty_root)
    seen: list[tuple[int, int, int, int]] = []

    class Looking(Server):
        def popen(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:  # type: ignore[override]
            (around,) = place.home.glob("init-*")
            info = around.stat()
            running = super().popen(command, **options)  # type: ignore[arg-type]
            status = Path(f"/proc/{running.pid}/status").read_text()
            gid = int(status.split("Gid:")[1].split()[1])
            seen.append((info.st_uid, info.st_gid, info.st_mode & 0o777, gid))
            return running

    Looking({**plan(place, bin_dir(place.account), 1)}).initialise()
    assert seen == [(0, place.account.gid, 0o710, place.account.gid)] * 2
    assert {each.lstat().st_uid for each in place.data.rglob("*")} == {place.account.uid}
    assert not list(place.home.glob("init-*"))


def test_every_installation_has_an_account_of_its_own() -> None:
    assert len({account(Path(f"/srv/{n}/.runtime/pg"), None).uid for n in range(50)}) == 50
    assert account(Path("/srv/1"), None) == account(Path("/srv/1"), None)


def test_a_number_that_a_user_has_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    first = account(Path("/srv/1"), None).uid
    monkeypatch.setattr(accounts_module, "is_shared", lambda number: number == first or is_shared(number))
    second = account(Path("/srv/1"), None).uid
    assert second != first
    assert account(Path("/srv/1"), first).uid == second  # data of an account that a user has got since


def test_where_few_numbers_exist_one_of_these_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "_mapped", lambda _: [range(65_536)])
    assert 61_184 <= account(Path("/srv/1"), None).uid < 65_520


def test_data_that_was_moved_keeps_its_account(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        first = find(root)
        assert first is not None
    stop(root)
    with temporary_root() as elsewhere:
        (root / "pg").rename(elsewhere / "pg")
        with EmbeddedServer.acquire(elsewhere) as server:
            assert ask(server.url, "SELECT 1") == 1
            moved = find(elsewhere)
            assert moved is not None
            assert moved.account == first.account
        stop(elsewhere)
