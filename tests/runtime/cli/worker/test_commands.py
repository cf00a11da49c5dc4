"""`runtime submit`, `runtime runs` and `runtime limits`: what they take, refuse and print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.cli.worker import flow_for_workers
from tests.support.commands import GRAPHS

if TYPE_CHECKING:
    from tests.support.commands import Runtime

GRAPH = flow_for_workers.__name__
INPUT = ("--input", '{"n": 1}')


def test_a_run_is_submitted_and_listed(on_db: Runtime) -> None:
    done = on_db(
        "submit", GRAPH, *INPUT, "--priority", "3", "--key", "k", "--tenant", "acme", "--delay", "5m", "--json"
    )
    assert done.code == 0, done.err
    (run,) = on_db("runs", "--json").json
    assert done.json == {"thread_id": run["thread_id"], "graph": GRAPH, "state": "queued"}
    assert (run["priority"], run["key"], run["tenant"], run["state"]) == (3, "k", "acme", "queued")
    assert run["due_at"] > run["created_at"]
    shown = on_db("runs").out
    assert GRAPH.rpartition(".")[2] in shown.replace("\n", "")
    assert "No worker has" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("tests.runtime.cli.worker.flow_for_worker", *INPUT), 3, "Did you mean"),
        ((GRAPH, "--input", '{"m": 1}'), 3, "unknown field 'm'"),
        ((GRAPH, "--input", "{"), 3, "is not JSON"),
        ((GRAPH,), 3, "needs an input"),
        ((GRAPH, *INPUT, "--delay", "soon"), 2, "must be a length of time"),
        ((GRAPH, *INPUT, "--priority", "high"), 2, "not a valid integer"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    on_db: Runtime, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = on_db("submit", *arguments)
    assert done.code == code
    assert said in done.err
    assert on_db("runs", "--json").json == []


def test_a_thread_of_another_graph_is_refused(on_db: Runtime) -> None:
    assert on_db("run", f"{GRAPHS}.counting", "--thread", "t").code == 0
    done = on_db("submit", GRAPH, "--thread", "t", *INPUT)
    assert (done.code, "belongs to the graph" in done.err) == (3, True)


def test_limits_are_set_listed_and_removed(on_db: Runtime) -> None:
    assert on_db("limits", "set", "graph", GRAPH, "2").code == 0
    assert on_db("limits", "set", "key", "*", "1").code == 0
    assert on_db("limits", "list", "--json").json == [
        {"scope": "graph", "name": GRAPH, "most": 2},
        {"scope": "key", "name": "*", "most": 1},
    ]
    assert "at once" in on_db("limits", "list").out
    assert on_db("limits", "remove", "key", "*").code == 0
    assert on_db("limits", "remove", "key", "*").code == 3
    assert on_db("limits", "set", "key", "a", "0").code == 2


def test_a_worker_for_a_graph_that_is_not_there_does_not_start(on_db: Runtime) -> None:
    done = on_db("worker", "--graph", "no.such.module")
    assert (done.code, "There is no module no.such.module" in done.err) == (3, True)
