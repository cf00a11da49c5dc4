"""`--isolation`, and what the graph says itself."""

from pathlib import Path

import psycopg
import pytest

from tests.support.commands import Runtime

SUMS = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from superstep import current_step, transactional

class State(TypedDict, total=False):
    held: int
    answer: str

async def setup(saver):
    async with saver.transaction() as tx:
        await tx.execute("CREATE TABLE IF NOT EXISTS purse (id int PRIMARY KEY, held int)")
        await tx.execute("INSERT INTO purse VALUES (1, 5) ON CONFLICT DO NOTHING")

async def look(state):
    return {"held": await current_step().fetchval("SELECT held FROM purse WHERE id = 1")}

async def ask(state):
    return {"answer": interrupt(state["held"])}

example_input = {}
builder = StateGraph(State).add_node(look).add_node(ask).add_edge(START, "look").add_edge("look", "ask")
"""


@pytest.mark.parametrize(
    ("graph", "flags", "held"),
    [
        ("graph = builder", [], 5),
        ("graph = builder", ["--isolation", "flow"], 6),
        ('graph = transactional(builder.compile(), isolation="flow")', [], 6),
        ('graph = transactional(builder.compile(), isolation="flow")', ["--isolation", "step"], 5),
    ],
)
def test_what_was_read_before_the_question(
    on_db: Runtime, database_url: str, tmp_path: Path, graph: str, flags: list[str], held: int
) -> None:
    (tmp_path / "flow_of_test_isolation.py").write_text(f"{SUMS}{graph}\n")
    assert on_db("run", "flow_of_test_isolation", "--thread", "t", *flags).code == 10
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE purse SET held = 6")
    done = on_db("resume", "t", "--value", '"yes"', "--json", *flags)
    if held == 6:
        assert done.json["interrupts"][0]["value"] == 6  # the answer was given to the question with 5
        done = on_db("resume", "t", "--value", '"yes"', "--json", *flags)
    assert (done.code, done.json["values"]) == (0, {"held": held, "answer": "yes"})
