"""A database of one's own, commands on it, and what a test looks at afterwards."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.crash import graphs_for_crash

ROOT = Path(__file__).parents[2]
GRAPH = f"{graphs_for_crash.__name__}:flow"
THREAD = "t"
OURS = ("RUNTIME_", "DATABASE_URL", "OPENAI_", "ANTHROPIC_", "SUPERSTEP_FAILPOINT")


def environment(**variables: str) -> dict[str, str]:
    """Variables for a process, without those of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


class Nursery:
    """The process of `nursery`, which forks commands, and the `main` of the modules that it is given."""

    def __init__(self, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery", *modules],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code, negative for the signal that killed it, and what it printed."""

    code: int
    out: str
    err: str
    hits: dict[str, int] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str | None:
        """The type of the error in the object it printed."""
        return (self.json["error"] or {}).get("type")


@dataclass
class Running:
    """A command in a process of its own."""

    pid: int
    folder: Path
    nursery: Nursery
    ended: bool = False

    def wait(self) -> Done:
        code = self.nursery.call(wait=self.pid)["code"]
        self.ended = True
        hits = self.folder / f"{self.pid}.hits"
        return Done(
            code,
            (self.folder / f"{self.pid}.out").read_text(),
            (self.folder / f"{self.pid}.err").read_text(),
            json.loads(hits.read_text()) if hits.exists() else {},
        )

    def send(self, number: int) -> None:
        if not self.ended:  # until `wait`, a dead one keeps its number
            os.kill(self.pid, number)


@dataclass(frozen=True)
class Traces:
    """All that a flow leaves behind, in a form that is equal for equal runs."""

    balances: list[int]
    journal: list[str]
    values: dict[str, Any]
    steps: list[tuple[Any, ...]]
    paid: Counter[str]

    def assert_equal(self, other: Traces, what: str = "") -> None:
        """Equal, except that a crash may have made pay again: how often is for the caller to say."""
        assert dataclasses.replace(self, paid=other.paid) == other, what
        assert self.paid >= other.paid, what


OTHERS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
RESET = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('runtime', 'public')
    LOOP
        IF name LIKE 'runtime.%migration%' THEN CONTINUE; END IF;
        EXECUTE 'DELETE FROM ' || name;
    END LOOP;
END $$;
DROP TABLE IF EXISTS account, journal;
"""


class World:
    """One thread of the flow of `graphs_for_crash`, alone on its database."""

    def __init__(self, url: str, folder: Path, nursery: Nursery, **variables: str) -> None:
        self.url = url
        self.folder = folder
        self.nursery = nursery
        self.paid_file = folder / "paid"
        self.variables = {graphs_for_crash.PAID: str(self.paid_file), **variables}
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RESET + graphs_for_crash.TABLES)

    def start(self, *arguments: str, at: str | None = None, number: int = signal.SIGKILL, **more: Any) -> Running:
        """Start a command; with `at`, it sends itself a signal at the nth time it reaches a failpoint."""
        reply = self.nursery.call(
            arguments=[*arguments, "--json", "--db", self.url],
            variables=self.variables,
            folder=str(self.folder),
            failpoint=at,
            signal=number,
            **more,
        )
        return Running(reply["pid"], self.folder, self.nursery)

    def start_run(self, **how: Any) -> Running:
        return self.start("run", GRAPH, "--thread", THREAD, **how)

    def start_resume(self, **how: Any) -> Running:
        return self.start("resume", THREAD, **how)

    def start_take_over(self) -> Running:
        """`resume` of a thread whose run is still there, asleep."""
        return self.start("resume", THREAD, "--take-over")

    def finish(self) -> Done:
        """Go on until it is finished: `resume`, or `run` again if the kill came before there was anything to resume."""
        done = self.start_resume().wait()
        if done.code == 3 and done.error == "ThreadNotFound":
            with psycopg.connect(self.url) as connection:
                assert connection.execute("SELECT count(*) FROM runtime.checkpoint").fetchone() == (0,)
            done = self.start_run().wait()
        assert done.code == 0 or (done.code, done.error) == (3, "ThreadFinished"), done.err
        return done

    def until(self, condition: str) -> None:
        """Ask the database until it says yes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            deadline = time.monotonic() + 20
            while connection.execute(f"SELECT {condition}").fetchone() != (True,):
                assert time.monotonic() < deadline, f"never happened: {condition}"
                time.sleep(0.005)

    def stored(self) -> Counter[str]:
        """Questions whose answers are durable."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT answer FROM runtime.llm_call").fetchall()
        return Counter(re.search(rb"answer to <([^>]*)>", row[0])[1].decode() for row in rows)

    def paid(self) -> Counter[str]:
        """How often each question was paid."""
        return paid_in(self.paid_file)

    def traces(self, done: Done) -> Traces:
        """Look at everything, after a command that completed or found that there was nothing left to do."""
        history = self.start("history", THREAD)
        values = done.json["values"] if done.code == 0 else self.start("show", THREAD).wait().json["values"]
        with psycopg.connect(self.url) as connection:
            balances = [row[0] for row in connection.execute("SELECT balance FROM account ORDER BY id")]
            journal = [row[0] for row in connection.execute("SELECT line FROM journal ORDER BY seq")]
        steps = [summary(step) for step in history.wait().json]
        return Traces(balances, journal, values, steps, self.paid())


def paid_in(file: Path) -> Counter[str]:
    """How often each question was paid, from the file that the rules write to."""
    return Counter(file.read_text().splitlines() if file.exists() else [])


def summary(step: dict[str, Any]) -> tuple[Any, ...]:
    """A step of `runtime history` without ids, times, and what a crash may change, such as attempts and repairs."""
    where = re.sub(r":[^|]*", "", step["checkpoint_ns"])
    return where, step["step"], tuple(step["nodes"]), step["reads"], step["writes"], step["llm_paid"], step["drifts"]
