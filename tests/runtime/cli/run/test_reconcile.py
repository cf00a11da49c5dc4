"""`runtime reconcile`: a sample of finished flows, in the words that people see."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

FLOW = """
import json
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph

from superstep import chat_model, current_step


class State(TypedDict, total=False):
    n: int
    said: str
    noted: str


async def plan(state):
    cache = json.loads(Path("cache.json").read_text())
    current_step().observed("cache", cache["n"])
    said = await chat_model("fast").ainvoke(f"{cache['n']} is left")
    return {"n": cache["n"], "said": said.text, "noted": cache["note"]}


graph = StateGraph(State).add_node("plan", plan).add_edge(START, "plan")
"""


@pytest.fixture
def cached(on_db: Runtime, tmp_path: Path) -> Any:
    """Writes the cache of a flow that has run three times on an empty one."""
    (tmp_path / "flow_of_test_reconcile.py").write_text(FLOW)

    def write(n: int, note: str = "") -> None:
        (tmp_path / "cache.json").write_text(json.dumps({"n": n, "note": note}))

    write(0)
    for thread in "abc":
        assert on_db("run", "flow_of_test_reconcile", "--input", "{}", "--thread", thread, "--json").code == 0
    return write


def test_what_has_not_changed_is_decided_the_same_for_nothing(on_db: Runtime, cached: Any) -> None:
    found = on_db("reconcile", "--sample", "2", "--json").json
    assert (found["flows"], found["compared"], found["differing"], found["delta"]) == (2, 2, 0, 0.0)
    assert (found["llm_paid"], found["llm_reused"]) == (0, 2)
    shown = on_db("reconcile").out
    assert "3 flows: 3 same · reconciliation delta 0.0 % · 0 LLM calls paid, 3 reused" in shown
    assert {each["thread_id"] for each in on_db("threads", "--json").json} == set("abc")
    assert on_db("metrics", "--json").json["reconciliation"] == {"flows": 3, "differing": 0, "delta": 0.0}


def test_what_differs_is_shown(on_db: Runtime, cached: Any) -> None:
    cached(5)
    found = on_db("reconcile", "a", "--json").json
    (thread,) = found["threads"]
    assert (found["delta"], thread["thread_id"], thread["channels"]) == (1.0, "a", ["n", "said"])
    assert (thread["before"]["n"], thread["after"]["n"], thread["llm_paid"]) == (0, 5, 1)
    shown = on_db("reconcile", "--channel", "n").out
    assert "n: 0 → 5" in shown
    assert "said:" not in shown
    assert "reconciliation delta 100.0 %" in shown
    assert "reconciliation delta" in on_db("metrics").out
    assert on_db("reconcile", "--channel", "noted", "--json").json["differing"] == 0


def test_threads_that_cannot_decide_again(on_db: Runtime, cached: Any, tmp_path: Path) -> None:
    (tmp_path / "flow_of_test_reconcile.py").write_text("")
    del sys.modules["flow_of_test_reconcile"]
    found = on_db("reconcile", "a", "--json").json
    assert (found["compared"], found["delta"], found["threads"][0]["outcome"]) == (0, None, "failed")
    assert "nothing to compare" in on_db("reconcile", "a").out
    assert on_db("reconcile", "nobody's").code == 3
    assert "No flow has completed" in on_db("reconcile", "--graph", "nobody's").out
