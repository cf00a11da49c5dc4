"""The flow as commands run it: answers from processes of their own, and processes that are killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.graphs.support.conftest import KETTLE, LARGE, TOTALS, refunded

if TYPE_CHECKING:
    from tests.support.commands import Runtime

GRAPH = "superstep.graphs.support"
REFUNDS = "SELECT order_id, amount FROM support.refund"


def message(text: str) -> str:
    return json.dumps({"customer_id": "C-001", "message": text})


# The flow, in a process that dies once, where DIES says, and writes down each answer of a model that is asked for. In
# another process, as the one of these tests, it is what it always is.
DYING = """
import os, signal
from pathlib import Path
from superstep.graphs import support
from superstep.graphs.support import flow, rules, tools

setup, example_input = support.setup, support.example_input
answer, assess, pay, remember = rules.answer, flow.assess, flow.pay, tools.remember.coroutine

def die(where):
    if where == os.environ["DIES"] and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def counted(request):
    if request.messages[-1].type == "tool":
        die("before the second answer")
    with Path("asked").open("a") as file:
        file.write("x")
    return answer(request)

async def remembering(**args):
    said = await remember(**args)
    die("when a tool has staged")
    return said

async def assessing(state):
    die("when the agent is done" if state["wishes"] else "when it is paid")
    return await assess(state)

async def paying(state):
    out = await pay(state)
    die("when the refund is staged")
    return out

if "DIES" in os.environ:
    rules.answer, tools.remember.coroutine, flow.assess, flow.pay = counted, remembering, assessing, paying
graph = flow.build()
"""


@pytest.mark.parametrize(
    "where",
    [
        "when a tool has staged",
        "before the second answer",
        "when the agent is done",
        "when the refund is staged",
        "when it is paid",
    ],
)
def test_killed_anywhere_it_goes_on(
    start: Any, on_db: Runtime, database_url: str, process_env: dict[str, str], where: str
) -> None:
    """Nothing is lost, doubled, or paid twice."""
    process_env["DIES"] = where
    Path("dying.py").write_text(DYING)
    assert start("run", "dying.py", "--thread", "t", "--db", database_url).wait(60) == -signal.SIGKILL
    assert start("resume", "t", "--db", database_url).wait(60) == 0
    assert Path("asked").read_text() == "xx"
    values = on_db("show", "t", "--json").json["values"]
    assert values["reply"] == f"Remembered: prefers answers by e-mail\n{refunded(KETTLE)}"
    with psycopg.connect(database_url) as connection:
        assert connection.execute(REFUNDS).fetchall() == [(KETTLE, TOTALS[KETTLE])]
    assert len(on_db("memory", "list", "support", "--json").json) == 1


def test_a_large_refund_overnight(on_db: Runtime, database_url: str) -> None:
    asked = on_db("run", GRAPH, "--thread", "t", "--json", "--input", message(f"Please refund {LARGE}."))
    assert asked.code == 10
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE support.purchase SET total = 60000 WHERE id = %s", [LARGE])
    answer = ("resume", "t", "--json", "--value", json.dumps({"by": "S-eli", "approved": True}))
    again = on_db(*answer)
    assert again.code == 10
    (question,) = again.json["interrupts"]
    assert question["value"]["facts_changed"]
    assert question["value"]["refund"]["amount"] == 600_00
    done = on_db(*answer)
    assert (done.code, done.json["values"]["reply"]) == (0, f"Order {LARGE} is refunded: 600.00.")
    assert done.json["usage"]["llm_paid"] == 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute(REFUNDS).fetchall() == [(LARGE, 600_00)]
