"""Workers in processes of their own, killed, paused and stopped in the middle of a node."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.runtime.cli.worker import flow_for_workers

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.commands import Runtime

pytestmark = pytest.mark.timeout(400)  # processes take their time to start on a busy machine

GRAPH = flow_for_workers.__name__
LEASE = "1.5"


class Fleet:
    """A database, a folder that nodes write to, and workers."""

    def __init__(self, url: str, folder: Path, start: Callable[..., subprocess.Popen[str]], runtime: Runtime) -> None:
        self.url, self.folder = url, folder
        self._start, self._runtime = start, runtime

    def worker(self, *options: str) -> subprocess.Popen[str]:
        return self._start("worker", "--db", self.url, *options, cwd=self.folder)

    def submit(self, thread: str, n: int = 1, *options: str) -> None:
        done = self._runtime(
            "submit", GRAPH, "--thread", thread, "--input", json.dumps({"n": n}), "--db", self.url, *options
        )
        assert (done.code, done.out) == (0, f"{thread}\n"), done.err

    def notes(self, what: str = "") -> list[str]:
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(what)]

    def noted(self, what: str, times: int = 1) -> int:
        """The process that was the latest to note it, once it was noted so often."""
        until(lambda: len(self.notes(what)) >= times)
        return int(self.notes(what)[-1].split()[-1])

    def let_go(self) -> None:
        (self.folder / "go").touch()

    def ask(self, sql: str) -> list[Any]:
        with psycopg.connect(self.url) as conn:
            return [row[0] if len(row) == 1 else row for row in conn.execute(sql)]

    def ended(self) -> list[Any]:
        """State and delivery of each run, the first one first, once they have all ended."""
        until(lambda: not self.ask("SELECT nr FROM runtime.queued_run WHERE ended_at IS NULL"))
        return self.ask("SELECT state, delivery FROM runtime.queued_run ORDER BY nr")

    def result_of_quick(self) -> None:
        until(lambda: self.ask("SELECT task_id FROM runtime.task_effect"))

    def journal(self) -> list[str]:
        return sorted(self.ask("SELECT line FROM journal"))


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.03)


@pytest.fixture
def fleet(
    database_url: str,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    runtime: Runtime,
    process_env: dict[str, str],
) -> Fleet:
    process_env.update(FLOW_FOLDER=str(tmp_path), RUNTIME_LEASE=LEASE)
    with psycopg.connect(database_url) as conn:
        conn.execute("CREATE TABLE journal (seq serial PRIMARY KEY, line text NOT NULL)")
    return Fleet(database_url, tmp_path, start, runtime)


def test_a_killed_workers_run_goes_on_elsewhere_and_nothing_that_was_stored_is_paid_for_twice(fleet: Fleet) -> None:
    fleet.submit("t")
    workers = {process.pid: process for process in (fleet.worker(), fleet.worker())}
    victim = fleet.noted("slow")
    fleet.result_of_quick()
    workers[victim].kill()
    other = fleet.noted("slow", 2)
    assert other != victim
    fleet.let_go()
    assert fleet.ended() == [("completed", 2)]
    names = [line.split()[0] for line in fleet.notes()]
    assert (names[0], sorted(names[1:-1]), names[-1]) == ("first", ["quick", "slow", "slow"], "last")
    assert fleet.journal() == ["quick 1", "slow 1"]


def test_a_paused_worker_commits_nothing_when_it_wakes_up(fleet: Fleet) -> None:
    fleet.submit("t")
    paused = fleet.worker()
    fleet.noted("slow")
    fleet.result_of_quick()
    paused.send_signal(signal.SIGSTOP)
    fleet.worker()
    other = fleet.noted("slow", 2)
    assert other != paused.pid
    fleet.let_go()
    assert fleet.ended() == [("completed", 2)]
    before = fleet.ask("SELECT count(*) FROM runtime.checkpoint")
    paused.send_signal(signal.SIGCONT)
    fleet.submit("later", 2)  # the one that was paused works on: it takes runs like any other
    paused.send_signal(signal.SIGTERM)
    assert paused.wait(60) == 0
    fleet.ended()
    assert fleet.ask("SELECT count(*) FROM runtime.checkpoint WHERE thread_id = 't'") == before
    assert [line for line in fleet.journal() if line.endswith(" 1")] == ["quick 1", "slow 1"]
    assert len(fleet.notes("last 1")) == 1


def test_a_stopped_worker_hands_its_run_on_at_once(fleet: Fleet, process_env: dict[str, str]) -> None:
    process_env["RUNTIME_LEASE"] = "600"  # nobody waits for it
    fleet.submit("t")
    stopped = fleet.worker("--grace", "0.5")
    fleet.noted("slow")
    fleet.result_of_quick()
    fleet.worker()
    stopped.terminate()
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 0, said
    assert "Stopping" in said
    fleet.noted("slow", 2)
    fleet.let_go()
    assert fleet.ended() == [("completed", 2)]
    assert len(fleet.notes("quick")) == 1
    assert fleet.journal() == ["quick 1", "slow 1"]


def test_a_worker_that_is_told_to_stop_commits_the_super_step_first(fleet: Fleet) -> None:
    fleet.submit("t")
    stopped = fleet.worker()
    fleet.noted("slow")
    stopped.terminate()
    assert stopped.stderr is not None
    assert any("Stopping" in line for line in iter(stopped.stderr.readline, ""))
    fleet.let_go()
    assert stopped.wait(60) == 0
    assert fleet.ask("SELECT state FROM runtime.queued_run") == ["queued"]
    assert fleet.journal() == ["quick 1", "slow 1"]
    fleet.worker()
    assert fleet.ended() == [("completed", 2)]
    assert [line.split()[0] for line in fleet.notes("last")] == ["last"]


def test_two_runs_of_one_thread_on_two_workers_come_one_after_the_other(fleet: Fleet) -> None:
    fleet.submit("t", 1)
    fleet.submit("t", 2)
    fleet.worker()
    fleet.worker()
    fleet.noted("slow 1")
    fleet.submit("other", 3)
    fleet.noted("slow 3")
    assert fleet.notes("first 2") == []
    fleet.let_go()
    assert [state for state, _ in fleet.ended()] == ["completed"] * 3
    order = [re.sub(r" \d+$", "", line) for line in fleet.notes() if line.split()[1] in "12"]
    assert order.index("last 1") < order.index("first 2")
    assert fleet.journal() == sorted(f"{name} {n}" for name in ("quick", "slow") for n in (1, 2, 3))


def test_a_worker_serves_the_measures_of_the_database(fleet: Fleet) -> None:
    fleet.let_go()
    fleet.submit("t")
    worker = fleet.worker("--metrics-port", "0")
    fleet.ended()
    assert worker.stderr is not None
    lines = iter(worker.stderr.readline, "")
    address = next(line.split()[1] for line in lines if line.startswith("Metrics: "))
    shown = urllib.request.urlopen(address, timeout=60).read().decode()
    assert re.search(r"^superstep_steps\S* [1-9]", shown, re.MULTILINE), shown
    with pytest.raises(OSError, match="404"):
        urllib.request.urlopen(address.replace("/metrics", "/"), timeout=60)
