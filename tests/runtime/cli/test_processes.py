import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import GRAPHS, Runtime


def test_help_is_quick_because_it_imports_little(process_env: dict[str, str]) -> None:
    code = "import sys\nfrom superstep.runtime.cli import main\nmain(['--help'])\nprint(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=process_env, capture_output=True, text=True, check=True)
    for heavy in ("langgraph", "asyncpg", "rich", "pydantic", "asyncio", "langchain_core"):
        assert f"'{heavy}'" not in done.stdout


HEAVY = (
    "anthropic", "genai_prices", "httpx", "httpx2", "jinja2", "langchain_anthropic", "langchain_core",
    "langchain_openai", "langgraph", "langsmith", "numpy", "onnxruntime", "openai", "pydantic", "requests", "tenacity",
    "tokenizers", "wordllama", "yaml",
)  # fmt: skip


@pytest.mark.parametrize("command", ["threads", "threads --json", "history t", "db check", "db migrate", "db url"])
def test_commands_that_only_look_import_no_graph_library_and_no_model(
    process_env: dict[str, str], database_url: str, tmp_path: Path, command: str
) -> None:
    """Importing these takes longer than everything else that such a command does."""
    run = [
        sys.executable,
        "-m",
        "superstep.runtime",
        "run",
        f"{GRAPHS}.counting",
        "--thread",
        "t",
        "--db",
        database_url,
    ]
    subprocess.run(run, env=process_env, capture_output=True, check=True)
    code = (
        "import sys\nfrom superstep.runtime.cli import main\ncode = main(sys.argv[1:])\n"
        "print('|', code, '|', ' '.join(sys.modules))"
    )
    words = [sys.executable, "-c", code, *command.split(), "--db", database_url]
    done = subprocess.run(words, env=process_env, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr  # what is printed after the answer of --json goes to standard error
    _, exit_code, modules = said.rsplit("|", 2)
    assert exit_code.strip() == "0"
    assert "asyncio" in modules.split()
    assert not set(HEAVY) & set(modules.split())


def test_a_command_loads_its_own_room_only(process_env: dict[str, str]) -> None:
    code = "import sys\nfrom superstep.runtime.cli import main\nmain(sys.argv[1:])\nprint('|', ' '.join(sys.modules))"
    words = [sys.executable, "-c", code, "run", "--help"]
    done = subprocess.run(words, env=process_env, capture_output=True, text=True, check=True)
    of_groups = {name for name in done.stdout.rsplit("|", 1)[1].split() if name.endswith(".commands")}
    assert of_groups & {f"superstep.runtime.cli.{room}.commands" for room in ("run", "worker", "demo", "inspect")} == {
        "superstep.runtime.cli.run.commands"
    }


def test_a_pipe_that_closes_early_is_quiet(start: Any, database_url: str) -> None:
    for command in ("threads", "threads --json", f"graph {GRAPHS}.counting", f"run {GRAPHS}.counting", "--help"):
        read, write = os.pipe()
        os.close(read)
        process = start("--db", database_url, *command.split(), stdout=write)
        os.close(write)
        assert process.communicate()[1] == "", command
        assert process.returncode == 141, command


@pytest.mark.parametrize(
    ("graph", "number", "code"), [("slow", signal.SIGINT, 130), ("blocked", signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_stops_the_run_and_the_thread_goes_on_later(
    start: Any, database_url: str, tmp_path: Path, graph: str, number: int, code: int
) -> None:
    gate = tmp_path / "gate"
    given = json.dumps({"gate": str(gate)})
    process = start("run", f"{GRAPHS}.failing:{graph}", "--input", given, "--thread", "t", "--db", database_url)
    for line in process.stdout:
        if re.match(r"\s+1\s+begin", line):
            break
    time.sleep(0.1)  # into the next node; earlier or later makes no difference to what is asserted
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "runtime resume t" in err
    assert "Traceback" not in out + err

    gate.touch()
    resumed = start("resume", "t", "--json", "--db", database_url)
    out, err = resumed.communicate()
    assert (resumed.returncode, err) == (0, "")
    assert (json.loads(out)["status"], json.loads(out)["values"]["done"]) == ("completed", True)


def test_a_stopped_run_prints_its_object_too(start: Any, database_url: str) -> None:
    given = '{"gate": "/nowhere"}'
    process = start("run", f"{GRAPHS}.failing:slow", "--input", given, "--thread", "t", "--json", "--db", database_url)
    listed = start("threads", "--json", "--db", database_url)
    while json.loads(listed.communicate()[0]) == []:
        listed = start("threads", "--json", "--db", database_url)
    process.send_signal(signal.SIGTERM)
    report = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 143
    assert (report["thread_id"], report["status"], report["error"]["type"]) == ("t", "unfinished", "Stopped")


def test_a_database_that_goes_away_is_exit_4(start: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    gate = tmp_path / "gate"
    given = json.dumps({"gate": str(gate)})
    process = start("run", f"{GRAPHS}.failing:polling", "--input", given, "--thread", "t")
    for line in process.stdout:
        if re.match(r"\s+1\s+begin", line):
            break
    assert start("db", "stop").communicate()[0] == "Stopped.\n"
    gate.touch()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 4, err
    assert err.startswith("DatabaseUnavailable: ")
    assert "runtime resume t" in err
    assert "Traceback" not in err
    try:
        resumed = start("resume", "t", "--json")
        assert json.loads(resumed.communicate()[0])["values"]["done"] is True
    finally:
        start("db", "stop").wait()


def test_without_an_address_the_embedded_database_is_used(start: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    try:
        first = start("run", f"{GRAPHS}.counting", "--thread", "t", "--json")
        err = first.communicate(timeout=120)[1]
        assert (first.returncode, err) == (0, "")
        began = time.monotonic()
        listed = start("threads", "--json").communicate(timeout=60)[0]
        assert time.monotonic() - began < 10
        assert [one["thread_id"] for one in json.loads(listed)] == ["t"]
        assert start("db", "url").communicate()[0].startswith("postgresql://")
    finally:
        assert start("db", "stop").communicate()[0] == "Stopped.\n"
    assert start("db", "stop").communicate()[0] == "It was not running.\n"


def test_a_server_that_was_started_on_purpose_stays_although_another_command_had_started_it(
    start: Any, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    assert start("db", "url").communicate()[0]
    started = json.loads(start("db", "start", "--json").communicate()[0])
    assert started["was_running"]
    (lock,) = tmp_path.glob(".runtime/pg/users.lock")
    assert float(lock.read_text()) == 3600
    assert start("db", "stop").communicate()[0] == "Stopped.\n"
    assert lock.read_text() == ""


class TestBusy:
    """A thread that another process is running."""

    @pytest.fixture
    def running(self, start: Any, database_url: str, tmp_path: Path) -> Any:
        """A process that runs thread `t` until its gate is opened."""
        given = json.dumps({"gate": str(tmp_path / "gate")})
        process = start("run", f"{GRAPHS}.failing:polling", "--input", given, "--thread", "t", "--db", database_url)
        for line in process.stdout:
            if re.match(r"\s+1\s+begin", line):
                break
        return process

    def test_it_is_not_taken_over_unless_that_is_wanted(self, running: Any, on_db: Runtime, tmp_path: Path) -> None:
        said = rf"ThreadBusy: The thread t is being run by process {running.pid} on \S+, since \d{{4}}-"
        for words in (["resume", "t"], ["run", f"{GRAPHS}.failing:polling", "--thread", "t", "--input", "{}"]):
            refused = on_db(*words)
            assert refused.code == 7
            assert re.match(said, refused.err)
            assert "--take-over" in refused.err
            assert on_db(*words, "--json").json["error"]["type"] == "ThreadBusy"
        (listed,) = on_db("threads", "--json").json
        assert listed["runner"]["pid"] == running.pid
        assert " running " in on_db("threads").out
        assert f"process {running.pid}" in on_db("show", "t").out

        (tmp_path / "gate").touch()
        assert running.wait(timeout=60) == 0
        assert on_db("threads", "--json").json[0]["runner"] is None

    @pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped"])
    def test_taken_over_it_is_fenced(
        self, running: Any, start: Any, on_db: Runtime, database_url: str, tmp_path: Path, stopped: bool
    ) -> None:
        if stopped:
            running.send_signal(signal.SIGSTOP)
            assert on_db("resume", "t").code == 7
        taking = start("resume", "t", "--take-over", "--json", "--db", database_url)
        while on_db("threads", "--json").json[0]["runner"]["pid"] != taking.pid:
            pass
        (tmp_path / "gate").touch()
        assert json.loads(taking.communicate(timeout=60)[0])["status"] == "completed"
        if stopped:
            running.send_signal(signal.SIGCONT)
        assert running.wait(timeout=60) == 7
        assert "StaleRun" in running.stderr.read()

    def test_a_killed_one_is_resumed_at_once(self, running: Any, on_db: Runtime, tmp_path: Path) -> None:
        (tmp_path / "gate").touch()
        running.kill()
        running.wait()
        assert on_db("resume", "t").code == 0
