"""`runtime threads --parked`, and the same for many threads at once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

SOURCE = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

version = "{version}"

class State(TypedDict, total=False):
    n: int
    answer: bool

def {node}(state):
    if state["n"] < 0:
        raise RuntimeError("below zero")
    return {{"answer": interrupt(f"{{state['n']}}?")}}

graph = StateGraph(State).add_node({node}).add_edge(START, "{node}")
"""


@pytest.fixture
def parked(on_db: Runtime, tmp_path: Path) -> Path:
    """Threads a, b and c of version 1 wait for an answer, d has failed."""
    file = tmp_path / "flow_of_test_bulk.py"
    file.write_text(SOURCE.format(version=1, node="asks"))
    for name, n in (("a", 1), ("b", 2), ("c", 3), ("d", -1)):
        code = on_db("run", "flow_of_test_bulk", "--thread", name, "--input", f'{{"n": {n}}}').code
        assert code == (1 if name == "d" else 10)
    return file


def becomes(file: Path, **what: Any) -> None:
    import sys

    file.write_text(SOURCE.format(**{"version": 2, "node": "asks"} | what))
    del sys.modules["flow_of_test_bulk"]


def ids(rows: Any) -> list[str]:
    return sorted(each["thread_id"] for each in rows)


def outcomes(rows: Any) -> dict[str, str]:
    return {each["thread_id"]: (each["error"] or {"type": each["outcome"]})["type"] for each in rows}


@pytest.mark.usefixtures("parked")
def test_the_list_of_parked_threads(on_db: Runtime, database_url: str, tmp_path: Path) -> None:
    assert on_db("threads", "resume", "--where", "status=interrupted", "--value", "true", "--yes").code == 0
    assert len(on_db("threads", "--json").json) == 4
    assert ids(on_db("threads", "--parked", "--json").json) == ["d"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE runtime.thread SET updated_at = now() - interval '4 days' WHERE thread_id = 'd'")
    assert ids(on_db("threads", "--parked", "--older-than", "3d", "--json").json) == ["d"]
    assert on_db("threads", "--parked", "--older-than", "5d", "--json").json == []
    assert ids(on_db("threads", "--version", "1", "--json").json) == ["a", "b", "c", "d"]
    assert len(on_db("threads", "--graph", "flow_of_test_bulk", "--limit", "2", "--json").json) == 2
    assert on_db("threads", "--graph", "other", "--json").json == []
    assert "No such thread." in on_db("threads", "--version", "9").out
    shown = on_db("threads", "--parked").out
    assert "version" in shown
    assert "failed" in shown


def test_one_that_fails_does_not_stop_the_others(on_db: Runtime, parked: Path) -> None:
    done = on_db("threads", "resume", "--where", "graph=flow_of_test_bulk", "--yes", "--json")
    assert outcomes(done.json) == {"a": "interrupted", "b": "interrupted", "c": "interrupted", "d": "RuntimeError"}
    assert done.code == 1
    done = on_db("threads", "resume", "--where", "status=interrupted", "--value", "true", "--yes", "--json")
    assert (done.code, set(outcomes(done.json).values())) == (0, {"completed"})
    assert "No such thread is parked." in on_db("threads", "resume", "--where", "status=interrupted").out


def test_without_yes_more_than_one_is_asked_for(on_db: Runtime, parked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = on_db("threads", "cancel", "--where", "version=1", "--json")
    assert (done.code, done.json["error"]["type"]) == (2, "UsageError")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = on_db("threads", "cancel", "--where", "version=1")
    assert (refused.code, "cancel 4 threads?" in refused.err) == (130, True)
    tried = on_db("threads", "cancel", "--where", "version=1", "--dry-run", "--json")
    assert (ids(tried.json), set(outcomes(tried.json).values())) == (["a", "b", "c", "d"], {"chosen"})
    assert len(on_db("threads", "--parked", "--json").json) == 4, "nothing was done"
    one = on_db("threads", "cancel", "--where", "status=failed", "--json")
    assert outcomes(one.json) == {"d": "cancelled"}


def test_what_is_cancelled_is_over_and_keeps_its_state(on_db: Runtime, parked: Path) -> None:
    becomes(parked, node="renamed")
    done = on_db("threads", "resume", "--where", "status=interrupted", "--value", "true", "--yes", "--json")
    assert (done.code, set(outcomes(done.json).values())) == (3, {"GraphChanged"})
    assert on_db("threads", "cancel", "--where", "version=1", "--yes").code == 0
    assert on_db("threads", "--parked", "--json").json == []
    assert {each["status"] for each in on_db("threads", "--json").json} == {"cancelled"}
    assert on_db("show", "b", "--json").json["values"] == {"n": 2}
    assert "ThreadFinished" in on_db("resume", "b").err
    again = on_db("run", "flow_of_test_bulk", "--thread", "b", "--input", '{"n": 5}', "--json")
    assert [each["value"] for each in again.json["interrupts"]] == ["5?"]


def test_a_fork_leaves_the_thread_as_it_is(on_db: Runtime, parked: Path) -> None:
    done = on_db("threads", "fork", "--where", "status=interrupted", "--yes", "--json")
    assert done.code == 0
    copy = next(each["outcome"] for each in done.json if each["thread_id"] == "a")
    answered = on_db("resume", copy, "--value", "true", "--json")
    assert answered.json["values"] == {"n": 1, "answer": True}
    assert on_db("show", "a", "--json").json["status"] == "interrupted"
    assert len(on_db("threads", "--parked", "--json").json) == 4 + 2


@pytest.mark.parametrize("where", ["colour=red", "graph", "graph=", "status=completed", "older-than=soon"])
def test_what_cannot_be_meant_is_refused(on_db: Runtime, where: str) -> None:
    assert on_db("threads", "cancel", "--where", where).code == 2
    assert on_db("threads", "cancel").code == 2
    assert on_db("threads", "cancel", "--where", "graph=a", "--where", "graph=b").code == 2
