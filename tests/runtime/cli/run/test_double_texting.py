"""`runtime run --multitask-strategy`, in processes of their own on one database."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

SOURCE = """
import asyncio
import operator
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    by: str
    seen: Annotated[list[str], operator.add]

async def first(state):
    (HERE / (state["by"] + ".at_work")).touch()
    while not (HERE / (state["by"] + ".go")).exists():
        await asyncio.sleep(0.01)
    return {"seen": [state["by"] + " 1"]}

async def second(state):
    return {"seen": [state["by"] + " 2"]}

HERE = Path(__file__).parent
graph = StateGraph(State).add_node(first).add_node(second).add_edge(START, "first").add_edge("first", "second")
"""


@pytest.fixture
def run(start: Any, tmp_path: Path, database_url: str) -> Any:
    (tmp_path / "flow_of_test_texting.py").write_text(SOURCE)

    def call(name: str, *options: str) -> Any:
        given = json.dumps({"by": name})
        words = ("run", "flow_of_test_texting.py", "--thread", "t", "--input", given, "--json", "--db", database_url)
        return start(*words, *options, cwd=tmp_path)

    return call


def until(there: Any, process: Any) -> None:
    ends = time.monotonic() + 60
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends


def ended(process: Any) -> tuple[int, Any]:
    out, err = process.communicate(timeout=60)
    return process.returncode, json.loads(out) if out else err


def in_line(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT COALESCE(sum(cardinality(queue)), 0) FROM runtime.turn").fetchone()
        return int(row[0]) if row else 0


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_waits_for_another_also_for_one_that_is_killed(
    run: Any, tmp_path: Path, database_url: str, *, killed: bool
) -> None:
    a = run("a")
    until((tmp_path / "a.at_work").exists, a)
    (tmp_path / "b.go").touch()
    b = run("b", "--multitask-strategy", "enqueue")
    until(lambda: in_line(database_url) == 1, b)
    assert not (tmp_path / "b.at_work").exists()
    if killed:
        a.send_signal(signal.SIGKILL)
    else:
        (tmp_path / "a.go").touch()
    code, report = ended(b)
    assert (code, report["values"]["seen"]) == (0, ["b 1", "b 2"] if killed else ["a 1", "a 2", "b 1", "b 2"])
    assert ended(a)[0] == (-signal.SIGKILL if killed else 0)


def test_a_place_in_line_goes_with_its_process(run: Any, tmp_path: Path, database_url: str) -> None:
    """Who was next is killed, and the one after it comes."""
    a = run("a")
    until((tmp_path / "a.at_work").exists, a)
    (tmp_path / "c.go").touch()
    b = run("b", "--multitask-strategy", "enqueue")
    until(lambda: in_line(database_url) == 1, b)
    c = run("c", "--multitask-strategy", "enqueue")
    until(lambda: in_line(database_url) == 2, c)
    b.send_signal(signal.SIGKILL)
    b.wait()
    (tmp_path / "a.go").touch()
    code, report = ended(c)
    assert (code, report["values"]["seen"]) == (0, ["a 1", "a 2", "c 1", "c 2"])
    assert ended(a)[0] == 0


def test_a_rollback_and_an_interrupt_end_the_run_of_another_process(run: Any, tmp_path: Path, on_db: Runtime) -> None:
    (tmp_path / "b.go").touch()
    for name, strategy in (("a", "rollback"), ("c", "interrupt")):
        other = run(name)
        until((tmp_path / f"{name}.at_work").exists, other)
        code, report = ended(run("b", "--multitask-strategy", strategy))
        assert code == 0
        (tmp_path / f"{name}.go").touch()
        code, failed = ended(other)
        assert (code, failed["error"]["type"]) == (7, "StaleRun")
    assert report["values"]["seen"] == ["b 1", "b 2", "b 1", "b 2"]
    assert len(on_db("history", "t", "--json").json) == 4


def test_the_settings_say_it_too_and_a_flag_before_them(run: Any, tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text('[run]\nmultitask_strategy = "interrupt"\n')
    a = run("a")
    until((tmp_path / "a.at_work").exists, a)
    (tmp_path / "b.go").touch()
    code, report = ended(run("b", "--multitask-strategy", "reject"))
    assert (code, report["error"]["type"]) == (7, "ThreadBusy")
    assert ended(run("b"))[0] == 0
    (tmp_path / "a.go").touch()
    assert ended(a)[0] == 7
