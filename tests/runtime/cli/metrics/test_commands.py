"""`runtime metrics`: for people, as JSON, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.support.commands import Runtime

FLOW = """
from typing import TypedDict

from langgraph.graph import START, StateGraph

from superstep import chat_model, current_step


class State(TypedDict, total=False):
    n: int


async def plan(state):
    step = current_step()
    await step.fetchval('SELECT balance AS "the\\\\ balance" FROM account WHERE id = $1', 7)
    step.observed("cache", state.get("n", 0))
    await chat_model("fast").ainvoke("hello")
    step.stage("UPDATE account SET balance = balance - 1 WHERE id = $1", 7)
    return {"n": 1}


async def act(state):
    step = current_step()
    await step.fetchval('SELECT balance AS "the\\\\ balance" FROM account WHERE id = $1', 7)
    step.observed("cache", state["n"])
    return {"n": 2}


graph = StateGraph(State).add_node("plan", plan).add_node("act", act).add_edge(START, "plan").add_edge("plan", "act")
"""


@pytest.fixture
def ran(on_db: Runtime, database_url: str, tmp_path: Any) -> Runtime:
    """A flow that has run once, whose account its own first step has changed."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
        connection.execute("INSERT INTO account VALUES (7, 100)")
    (tmp_path / "flow_of_test_metrics.py").write_text(FLOW)
    done = on_db("run", "flow_of_test_metrics", "--input", '{"n": 0}', "--json")
    assert done.code == 0, done.err
    return on_db


def test_for_people(ran: Runtime) -> None:
    done = ran("metrics")
    assert done.code == 0
    for words in (
        "inter-step divergence",
        "2 of 2 values had moved",
        "0 of 0 keys differed between tasks",
        "write conflicts",
        "plan → act",
        "[7]",
        "flow_of_test_metrics",
        "no model is asked",
        "1 flow: 1 completed",
    ):
        assert words in done.out, done.out


def test_as_json(ran: Runtime) -> None:
    found = ran("metrics", "--json").json
    totals = found["coherence"]["totals"]
    assert (totals["pairs"], totals["moved"], totals["attempts"], totals["conflicts"]) == (2, 2, 2, 0)
    statement = 'SELECT balance AS "the\\ balance" FROM account WHERE id = $1'
    pairs = {each["statement"]: each for each in found["coherence"]["divergences"]}
    assert pairs.keys() == {statement, "cache"}
    assert (pairs[statement]["arguments"], pairs[statement]["moved"]) == ("7", 1)
    assert pairs["cache"]["max_seconds"] > 0
    assert [(each["steps"], each["reads"], each["writes"]) for each in found["steps"]] == [(2, 2, 1)]
    (call,) = found["calls"]
    assert (call["provider"], call["calls"], call["failed"], call["usd"]) == ("offline", 1, 0, 0)
    assert [each["error_rate"] for each in found["deployments"]] == [0.0]
    assert [(each["status"], each["flows"]) for each in found["flows"]] == [("completed", 1)]
    assert found["reconciliation"] == {"flows": 0, "differing": 0, "delta": 0.0}
    assert ran("metrics", "--graph", "nobody's", "--json").json["steps"] == []


def test_for_prometheus(ran: Runtime) -> None:
    text = ran("metrics", "--prometheus", "--since", "2h").out
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {family.type for family in families.values()} == {"gauge"}
    assert all(family.documentation.endswith(".") for family in families.values())
    values = {name: [sample.value for sample in family.samples] for name, family in families.items()}
    assert values["superstep_window_seconds"] == [7200.0]
    assert values["superstep_divergence_moved"] == [2.0]
    assert values["superstep_skew_differing"] == values["superstep_conflict_ratio"] == [0.0]
    assert values["superstep_llm_calls"] == [1.0]
    pairs = families["superstep_pair_divergence_moved"].samples
    labels = {sample.labels["statement"]: sample.labels for sample in pairs}
    statement = 'SELECT balance AS "the\\ balance" FROM account WHERE id = $1'
    assert labels[statement] == {"before": "plan", "after": "act", "statement": statement}
    assert len(text.splitlines()) == len(set(text.splitlines()))
    assert len([line for line in text.splitlines() if line.startswith("# TYPE")]) == len(families)


def test_nothing_ran(on_db: Runtime) -> None:
    assert "Nothing has run in that time" in on_db("metrics").out
    text = on_db("metrics", "--prometheus").out
    assert "superstep_divergence_pairs 0\n" in text


@pytest.mark.parametrize("wrong", [("--since", "yesterday"), ("--json", "--prometheus"), ("--limit", "0")])
def test_wrong_usage(on_db: Runtime, wrong: tuple[str, ...]) -> None:
    assert on_db("metrics", *wrong).code == 2
