"""`runtime import`: what it prints, its exit codes, and killed in the middle."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from rich.console import Console

from superstep.checkpointer.database import failpoints
from superstep.runtime.cli.imports import progress
from tests.support.stored_by_langgraph import SHAPES, begin, langgraphs_saver

if TYPE_CHECKING:
    from tests.support.commands import Runtime

SHAPE = {shape.name: shape for shape in SHAPES}
NAMES = [f"t{n}" for n in range(4)]


@pytest.fixture
def there(empty_database_url: str) -> str:
    """Four threads of LangGraph's: interrupted, with a subgraph each."""

    async def fill() -> None:
        async with langgraphs_saver(empty_database_url) as old:
            for name in NAMES:
                await begin(SHAPE["nested"], old, name)

    asyncio.run(fill())
    return empty_database_url


def counted(url: str, tables: str) -> dict[str, tuple[int, int]]:
    """How many checkpoints and writes each thread has."""
    checkpoints, writes = tables.split()
    with psycopg.connect(url) as conn:
        found = conn.execute(
            f"SELECT thread_id, count(*), (SELECT count(*) FROM {writes} w WHERE w.thread_id = c.thread_id) "
            f"FROM {checkpoints} c GROUP BY 1".encode()
        )
        return {row[0]: (row[1], row[2]) for row in found}


def test_counts_are_printed_and_compared(on_db: Runtime, there: str) -> None:
    first = on_db("import", "--from", there, "--json")
    assert first.code == 0, first.err
    found = first.json
    assert found["read"] == found["stored"]
    assert found["stored"]["threads"] == 4
    again = on_db("import", "--from", there)
    assert "4 threads had been imported before" in again.out
    assert [line.split() for line in again.out.splitlines() if "checkpoints" in line] == [["checkpoints", "0", "0"]]


def test_single_threads_and_refused_ones(on_db: Runtime, there: str) -> None:
    done = on_db("import", "--from", there, "--thread", "t2", "--thread", "none")
    assert done.code == 3
    assert "none was refused: there is no such thread" in done.out
    assert [each["thread_id"] for each in on_db("threads", "--json").json] == ["t2"]


def test_a_source_that_is_none(on_db: Runtime, empty_database_url: str) -> None:
    done = on_db("import", "--from", empty_database_url)
    assert done.code == 3
    assert "no table `checkpoints`" in done.err
    assert on_db("import", "--from", "postgresql://u:secret@127.0.0.1:1/x").code == 4


@pytest.mark.parametrize("point", [f"{name}:{nth}" for name in failpoints.IMPORT_NAMES for nth in (1, 3)])
def test_one_that_is_killed_leaves_whole_threads_and_goes_on(
    start: Any, process_env: dict[str, str], on_db: Runtime, database_url: str, there: str, point: str
) -> None:
    process_env["SUPERSTEP_FAILPOINT"] = point
    killed = start("import", "--from", there, "--batch", "2", "--db", database_url)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    nth = int(point.partition(":")[2])
    expected = counted(there, "checkpoints checkpoint_writes")
    here = counted(database_url, "runtime.checkpoint runtime.task_write")
    assert here == {name: expected[name] for name in NAMES[: nth - 1]}
    done = on_db("import", "--from", there, "--json").json
    assert done["threads"] == {"imported": 5 - nth, "continued": 0, "there": nth - 1, "changed": 0, "refused": 0}
    assert counted(database_url, "runtime.checkpoint runtime.task_write") == expected


def test_progress_is_shown_on_a_terminal(on_db: Runtime, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", lambda **_: terminal)
    on_db("import", "--from", there)
    assert "4/4" in shown.getvalue()
    assert json.dumps(on_db("import", "--from", there, "--json").json["threads"]["there"]) == "4"
