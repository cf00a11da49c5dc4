"""The watcher: killed servers, killed users, killed watchers, servers of others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, status, stop
from superstep.checkpointer.embedded.place import find, prepare
from superstep.checkpointer.embedded.watcher import Server
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import (
    GRACE,
    as_account,
    ask,
    by_hand,
    execute,
    is_gone,
    postmaster,
    until,
    url_of,
    watcher,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_server_stops_when_its_last_user_is_killed(root: Path, spawn: Callable[[], subprocess.Popen[str]]) -> None:
    first, second = spawn(), spawn()
    url_of(first)
    url = url_of(second)
    pid = postmaster(root)
    first.kill()
    first.wait()
    time.sleep(3 * GRACE)  # not a synchronisation: it must still be there after the grace time
    assert ask(url, "SELECT 1") == 1
    assert postmaster(root) == pid
    second.kill()
    until(lambda: is_gone(root))
    assert not Path(f"/proc/{pid}").exists()
    assert not status(root).running


def test_arriving_while_the_watcher_stops_the_server_is_safe(root: Path) -> None:
    with EmbeddedServer.acquire(root, grace=0) as server:
        execute(server.url, "CREATE TABLE visit (n int)")

    def visit(n: int) -> None:
        for _ in range(15):
            with EmbeddedServer.acquire(root, grace=0) as server:
                execute(server.url, f"INSERT INTO visit VALUES ({n})")
            time.sleep(0.013 * n)  # so that the visits drift past the watcher's looks

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(visit, (4, 7, 11)))
    with EmbeddedServer.acquire(root) as server:
        assert ask(server.url, "SELECT count(*) FROM visit") == 45
    place = find(root)
    assert place is not None
    assert place.log.read_text().count("ready to accept connections") > 2, "the server never stopped in between"


def was_asked_to_end(pid: int) -> bool:
    """Whether the watcher has sent SIGINT to a stopped server.

    That the users' lock is held says less: the watcher takes it for every look, and gives it back if it finds a client,
    such as the one that asked whether the server is up.
    """
    pending = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) & 1 << signal.SIGINT - 1)


def test_whoever_comes_while_the_server_stops_waits_and_gets_a_new_one(root: Path) -> None:
    with EmbeddedServer.acquire(root, grace=0):
        pid = postmaster(root)
        os.kill(pid, signal.SIGSTOP)  # so that stopping takes as long as we want
    try:
        until(lambda: was_asked_to_end(pid))
        with ThreadPoolExecutor(1) as executor:
            coming = executor.submit(EmbeddedServer.acquire, root)
            with pytest.raises(TimeoutError):
                coming.result(0.5)
            os.kill(pid, signal.SIGCONT)
            with coming.result(20) as server:
                assert ask(server.url, "SELECT 1") == 1
                assert postmaster(root) != pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_killed_server_comes_back_with_its_data(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        execute(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = postmaster(root)
        os.kill(pid, signal.SIGKILL)
        with EmbeddedServer.acquire(root) as again:
            assert ask(again.url, "SELECT n FROM kept") == 42
            assert postmaster(root) != pid
        assert again.url == server.url


def test_a_killed_server_is_started_again_for_those_who_use_it(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        until(lambda: ask(server.url, "SELECT now() - pg_postmaster_start_time() > interval '1.2 s'"))
        pid = postmaster(root)
        os.kill(pid, signal.SIGKILL)
        until(lambda: status(root).pid not in {None, pid})
        assert ask(server.url, "SELECT 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no parent-death signal")
def test_the_server_does_not_outlive_a_killed_watcher(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        execute(server.url, "CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(watcher(root), signal.SIGKILL)
        until(lambda: is_gone(root))
        with EmbeddedServer.acquire(root) as again:
            assert ask(again.url, "SELECT n FROM kept") == 42


def test_the_watcher_is_out_of_reach_of_the_terminal(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        assert os.getsid(watcher(root)) != os.getsid(0)


def test_killing_a_command_during_the_first_start_leaves_nothing_behind(
    empty_root: Path, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    first = spawn()
    until(lambda: list(empty_root.glob("pg/init-*")))
    first.kill()
    until(lambda: is_gone(empty_root))
    with EmbeddedServer.acquire(empty_root) as server:
        assert ask(server.url, "SELECT 1") == 1
    assert not list(empty_root.glob("pg/init-*"))


def test_killing_the_watcher_during_the_first_start_does_no_harm(
    empty_root: Path, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    spawn()
    until(lambda: list(empty_root.glob("pg/init-*")))
    os.kill(int(next(empty_root.glob("pg/init-*")).name.removeprefix("init-")), signal.SIGKILL)
    with EmbeddedServer.acquire(empty_root) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_stale_pid_files_with_the_number_of_another_program_do_not_block(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
        text = (place.data / "postmaster.pid").read_text()
    stop(root)
    with subprocess.Popen(["sleep", "60"], **as_account(place)) as other:
        try:
            for stale in (place.data / "postmaster.pid", place.socket.with_name(f"{place.socket.name}.lock")):
                stale.write_text(text.replace(text.split()[0], str(other.pid), 1))
                os.chown(stale, place.account.uid, place.account.gid)
            with EmbeddedServer.acquire(root) as server:
                assert ask(server.url, "SELECT 1") == 1
        finally:
            other.kill()


def test_a_server_started_by_hand_on_the_data_is_left_alone(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
    stop(root)
    with by_hand(place) as other:
        try:
            with pytest.raises(DatabaseUnavailable, match="already exists"):
                EmbeddedServer.acquire(root)
            assert other.poll() is None
        finally:
            other.terminate()


def test_a_server_that_outlived_its_watcher_is_ended(root: Path) -> None:
    """Only on systems that cannot tie a process to its parent can it come to this, so the method is called here."""
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
    stop(root)
    with by_hand(place) as other:
        try:
            Server({"home": place.home}).quit_orphan()
            assert other.wait(10) is not None
        finally:
            other.kill()


def test_deleting_the_folder_ends_the_server(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        pid = postmaster(root)
        shutil.rmtree(root / "pg", ignore_errors=True)
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_client_that_holds_no_lock_keeps_the_server_while_it_is_connected(root: Path) -> None:
    with EmbeddedServer.acquire(root, grace=0.2) as server:
        client = psycopg.connect(server.url, autocommit=True)
    try:
        idle_until = time.monotonic() + 1.0  # several times the grace
        while time.monotonic() < idle_until:
            assert client.execute("SELECT 1").fetchone() == (1,)
    finally:
        client.close()
    until(lambda: is_gone(root))


def test_a_server_that_runs_already_stays_for_as_long_as_a_later_user_asks(root: Path) -> None:
    with EmbeddedServer.acquire(root, grace=0):
        pid = postmaster(root)
        with EmbeddedServer.acquire(root, grace=30):
            pass
        with EmbeddedServer.acquire(root, grace=0):  # asks for less: nothing changes
            pass
    time.sleep(1)  # not a synchronisation: several looks of the watcher, each of which would have stopped it
    assert postmaster(root) == pid
    assert stop(root)
    with EmbeddedServer.acquire(root, grace=0):  # what was asked of the server before is forgotten
        assert postmaster(root) != pid
    until(lambda: is_gone(root))


def test_nonsense_in_the_lock_file_is_nothing_asked(root: Path) -> None:
    place = prepare(root)
    place.lock("users").write_text("for ever\n")
    with EmbeddedServer.acquire(root, grace=0):
        pass
    until(lambda: is_gone(root))
