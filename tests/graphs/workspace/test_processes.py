"""The flow as commands run it, on one database, and a process that is killed while the tests run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import psycopg

from superstep.graphs.workspace import seed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

GRAPH = "superstep.graphs.workspace"
VAT = json.dumps({"tasks": ["Set VAT to 21 in prices.py."]})


def merges(database_url: str) -> list[tuple[int, str]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT id, agent FROM workspace.merge ORDER BY id").fetchall()


def test_killed_while_the_tests_run(start: Any, on_db: Runtime, database_url: str, tmp_path: Path) -> None:
    """Nothing is merged by the one that was killed; the one that resumes asks no model again."""
    assert on_db("run", GRAPH, "--input", '{"tasks": ["Make it faster."]}').code == 0
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    waiting = (
        "import pathlib, time, unittest\nclass Slow(unittest.TestCase):\n    def test(self):\n"
        f"        pathlib.Path({str(begun)!r}).touch()\n"
        f"        while not pathlib.Path({str(gate)!r}).exists():\n            time.sleep(0.01)\n"
    )
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO workspace.merge VALUES (1, '', 'somebody', '', '', '')")
        connection.execute("INSERT INTO workspace.file VALUES ('test_slow.py', 1, %s)", [waiting])
    process = start("run", GRAPH, "--thread", "t", "--input", VAT, "--db", database_url)
    until = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(merges(database_url)) == 2
    gate.touch()
    resumed = on_db("resume", "t", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["values"]["changes"]["agent-1"]["status"] == "merged"
    assert resumed.json["usage"]["llm_paid"] == 2
    assert merges(database_url)[2:] == [(2, "agent-1")]


def test_processes_that_merge_at_once(start: Any, on_db: Runtime, database_url: str) -> None:
    assert on_db("run", GRAPH, "--input", '{"tasks": ["Make it faster."]}').code == 0
    names = {"prices.py": ("VAT", "MAX_DISCOUNT"), "stock.py": ("REORDER_BELOW", "SHELVES")}
    given = [json.dumps({"tasks": [f"Set {name} to 5 in {path}." for name in names[path]]}) for path in names]
    running = [start("run", GRAPH, "--input", each, "--db", database_url) for each in given]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    assert [number for number, _ in merges(database_url)] == [0, 1, 2, 3, 4]
    with psycopg.connect(database_url) as connection:
        sql = "SELECT DISTINCT ON (path) path, content FROM workspace.file ORDER BY path, merge DESC"
        files = dict(connection.execute(sql).fetchall())
    assert all(f"{name} = 5\n" in files[path] for path in names for name in names[path])
    assert set(files) == set(seed.FILES)
