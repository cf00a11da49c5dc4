import json
import shlex
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import GRAPHS, Runtime

REPORT = {"thread_id", "graph", "status", "values", "interrupts", "steps", "usage", "error"}
STEP = {
    *("step", "nodes", "checkpoint_id", "attempts", "repairs", "drifts", "escalated"),
    *("commit", "reads", "writes", "llm_paid", "llm_reused", "ms"),
}


def test_json_is_the_object_of_the_contract(on_db: Runtime) -> None:
    done = on_db("run", f"{GRAPHS}.counting", "--input", '{"number": 1}', "--thread", "t", "--json")
    assert (done.code, done.err) == (0, "")
    assert set(done.json) == REPORT
    assert (done.json["thread_id"], done.json["graph"], done.json["status"]) == ("t", f"{GRAPHS}.counting", "completed")
    assert done.json["values"] == {"number": 3, "seen": ["first", "second"]}
    assert [step["nodes"] for step in done.json["steps"] if step["nodes"]] == [["first"], ["second"]]
    assert set(done.json["steps"][0]) >= STEP
    assert done.json["error"] is None


def test_people_see_thread_steps_values_and_summary(on_db: Runtime) -> None:
    done = on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    assert done.code == 0
    lines = done.out.splitlines()
    assert "thread t" in lines[0]
    assert "runtime resume t" in lines[1]
    assert lines[2].split()[:2] == ["1", "first"]
    assert lines[3].split()[:2] == ["2", "second"]
    assert "offline" not in done.out, "no model is asked"
    assert '"number": 42,' in done.out
    assert lines[-1].startswith("completed · 2 steps")


def test_offline_is_said_where_a_model_is_asked(on_db: Runtime) -> None:
    done = on_db("run", f"{GRAPHS}.asking_models", "--thread", "t")
    assert [line for line in done.out.splitlines() if "offline, deterministic" in line] == [
        "models: offline, deterministic (no OPENAI_API_KEY or ANTHROPIC_API_KEY is set)"
    ]
    assert all(len(line) <= 80 for line in done.out.splitlines()), "each fits a terminal of 80 columns"


REJECTED = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from superstep import current_step

class State(TypedDict, total=False):
    drawn: int

async def setup(saver):
    async with saver.transaction() as tx:
        await tx.execute("CREATE TABLE IF NOT EXISTS purse (id int PRIMARY KEY, held int CHECK (held >= 0))")
        await tx.execute("INSERT INTO purse VALUES (1, 5) ON CONFLICT DO NOTHING")

async def draw(state):
    drawn = interrupt("how much?")
    current_step().stage("UPDATE purse SET held = held - $1 WHERE id = 1", drawn, expect_rows=1)
    return {"drawn": drawn}

graph = StateGraph(State).add_node(draw).add_edge(START, "draw")
"""


def test_a_question_comes_again_when_its_answer_could_not_be_written(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "flow_of_test_purse.py").write_text(REJECTED)
    assert on_db("run", "flow_of_test_purse", "--input", "{}", "--thread", "t").code == 10
    assert "StagedWriteFailed" in on_db("resume", "t", "--value", "9").err
    again = on_db("resume", "t")
    assert (again.code, "asked again: facts have changed, or what was answered could not be written" in again.out) == (
        10,
        True,
    )
    assert on_db("resume", "t", "--value", "4", "--json").json["values"] == {"drawn": 4}


def test_the_question_stands_before_the_state(on_db: Runtime) -> None:
    run = on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "t").out
    for shown in (run, on_db("show", "t").out, on_db("resume", "t").out):
        assert shown.index('"approve": 5') < shown.index("runtime resume t --value") < shown.index('"amount": 5')


def test_a_new_thread_gets_an_id(on_db: Runtime) -> None:
    threads = {on_db("run", f"{GRAPHS}.counting", "--json").json["thread_id"] for _ in range(2)}
    assert len(threads) == 2


@pytest.mark.parametrize(
    ("stream", "shown"),
    [("updates", '{"first": {"number": 41, "seen": ["first"]}}'), ("values", '{"number": 41, "seen": ["first"]}')],
)
def test_streams(on_db: Runtime, stream: str, shown: str) -> None:
    assert shown in on_db("run", f"{GRAPHS}.counting", "--stream", stream).out.splitlines()
    as_json = on_db("run", f"{GRAPHS}.counting", "--stream", stream, "--json")
    assert as_json.json["status"] == "completed"
    assert shown in as_json.err.splitlines()


def test_a_functional_graph_and_plain_text_input(on_db: Runtime) -> None:
    done = on_db("run", f"{GRAPHS}.various:greet", "--input", '"you"', "--json")
    assert (done.code, done.json["values"]) == (0, "hello you")


def test_hooks_are_called_around_the_run(on_db: Runtime) -> None:
    from tests.runtime.cli.graphs_for_tests import hooked

    hooked.events.clear()
    done = on_db("run", f"{GRAPHS}.hooked", "--json")
    assert done.json["values"] == {"events": ["example", "setup", "open"]}
    assert hooked.events == ["setup", "open", "close"]


def test_an_interrupt_waits_for_its_answer(on_db: Runtime) -> None:
    asked = on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "t", "--json")
    assert (asked.code, asked.json["status"]) == (10, "interrupted")
    assert [interrupt["value"] for interrupt in asked.json["interrupts"]] == [{"approve": 5}]

    again = on_db("resume", "t")
    assert again.code == 10
    assert '"approve": 5' in again.out
    assert "runtime resume t --value JSON" in again.out

    unquoted = on_db("resume", "t", "--value", "yes")
    assert unquoted.code == 3
    assert """--value '"yes"'""" in unquoted.err

    answered = on_db("resume", "t", "--value", '"yes"', "--json")
    assert (answered.code, answered.json["values"]["answers"]) == (0, ["yes"])

    finished = on_db("resume", "t", "--value", '"yes"', "--json")
    assert (finished.code, finished.json["status"]) == (3, "failed")
    assert finished.json["error"]["type"] == "ThreadFinished"


def test_null_is_an_answer(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "t")
    answered = on_db("resume", "t", "--value", "null", "--json")
    assert (answered.code, answered.json["values"]["answers"]) == (0, [None])


def test_several_interrupts_are_answered_by_id(on_db: Runtime) -> None:
    asked = on_db("run", f"{GRAPHS}.asking:both", "--input", "{}", "--thread", "t", "--json").json["interrupts"]
    left, right = (next(one["id"] for one in asked if one["value"] == text) for text in ("left?", "right?"))

    vague = on_db("resume", "t", "--value", '"yes"')
    assert vague.code == 3
    assert left in vague.err
    assert on_db("resume", "t", "--value", '{"nobody": 1}').code == 3

    half = on_db("resume", "t", "--value", json.dumps({right: "R"}), "--json")
    assert (half.code, [one["value"] for one in half.json["interrupts"]]) == (10, ["left?"])
    done = on_db("resume", "t", "--value", '"L"', "--json")
    assert (done.code, done.json["values"]["answers"]) == (0, ["L", "R"])


def test_the_beginnings_of_their_ids_will_do_unless_one_is_meant_twice(on_db: Runtime) -> None:
    asked = on_db("run", f"{GRAPHS}.asking:both", "--input", "{}", "--thread", "t", "--json").json["interrupts"]
    left, right = (next(one["id"] for one in asked if one["value"] == text) for text in ("left?", "right?"))
    for wrong in ({left[:8]: "L", left[:9]: "L"}, {left[:3]: "L"}, {left[:8]: "L", "nobody": 1}):
        assert on_db("resume", "t", "--value", json.dumps(wrong)).code == 3
    done = on_db("resume", "t", "--value", json.dumps({left[:8]: "L", right: "R"}), "--json")
    assert (done.code, done.json["values"]["answers"]) == (0, ["L", "R"])


def test_a_failure_is_reported_and_resumed(on_db: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    failed = on_db("run", f"{GRAPHS}.failing", "--input", json.dumps({"gate": str(gate)}), "--thread", "t", "--json")
    assert (failed.code, failed.json["status"], failed.json["values"]["done"]) == (1, "failed", False)
    assert failed.json["error"] == {
        "type": "ValueError",
        "message": "the gate is shut",
        "what_to_do": "Correct the cause, then: runtime resume t",
    }
    assert "ValueError: the gate is shut" in failed.err
    assert "in pass_gate" in failed.err
    assert "Traceback" not in failed.err
    assert "Traceback" in on_db("--debug", "resume", "t").err

    gate.touch()
    assert on_db("resume", "t", "--value", "1").code == 3
    resumed = on_db("resume", "t", "--json")
    assert (resumed.code, resumed.json["values"]["done"]) == (0, True)


def test_a_checkpoint_is_forked(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    steps = on_db("history", "t", "--json").json
    first, last = (next(s["checkpoint_id"] for s in steps if s["nodes"] == [name]) for name in ("first", "second"))
    fork = on_db("resume", "t", "--checkpoint", first, "--json")
    assert (fork.code, fork.json["values"]["number"]) == (0, 42)
    assert on_db("resume", "t", "--checkpoint", last).code == 3
    unknown = on_db("resume", "t", "--checkpoint", "no-such", "--json")
    assert (unknown.code, unknown.json["error"]["type"]) == (3, "ThreadNotFound")


def test_an_answered_question_is_asked_again_by_a_fork(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "t")
    before = on_db("show", "t", "--json").json["checkpoint_id"]
    on_db("resume", "t", "--value", '"yes"')
    assert on_db("resume", "t", "--checkpoint", before).code == 10
    other = on_db("resume", "t", "--value", '"no"', "--json")
    assert (other.code, other.json["values"]["answers"]) == (0, ["no"])


def test_another_turn_on_a_thread_needs_an_input(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    refused = on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    assert (refused.code, "or see it with: runtime show t\n" in refused.err) == (3, True)
    turn = on_db("run", f"{GRAPHS}.counting", "--thread", "t", "--input", '{"number": 0}', "--json")
    assert turn.json["values"] == {"number": 2, "seen": ["first", "second", "first", "second"]}
    assert [step["nodes"] for step in turn.json["steps"] if step["nodes"]] == [["first"], ["second"]]


def test_what_an_error_says_to_do_instead_can_be_done(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "a thread")
    for code in (10, 0):
        refused = on_db("run", f"{GRAPHS}.counting", "--thread", "a thread")
        said = refused.err.rstrip().rpartition("with: runtime ")[2]
        assert (refused.code, on_db(*shlex.split(said)).code) == (3, code)
        on_db("resume", "a thread", "--value", '"yes"')


def test_a_thread_keeps_its_graph(on_db: Runtime, tmp_path: Path) -> None:
    source = (Path(__file__).parents[1] / "graphs_for_tests" / "asking.py").read_text()
    (tmp_path / "flow_of_test_old.py").write_text(source)
    on_db("run", "flow_of_test_old", "--input", '{"amount": 1}', "--thread", "t")
    other = on_db("run", f"{GRAPHS}.counting", "--thread", "t", "--json")
    assert (other.code, other.json["error"]["type"]) == (3, "ThreadMismatch")

    import sys

    del sys.modules["flow_of_test_old"]
    (tmp_path / "flow_of_test_old.py").rename(tmp_path / "flow_of_test_new.py")
    lost = on_db("resume", "t", "--value", "1")
    assert lost.code == 3
    assert "--graph" in lost.err
    shown = on_db("show", "t", "--json").json
    assert shown["values"]["amount"] == 1
    assert "flow_of_test_old" in shown["note"]
    assert on_db("resume", "t", "--value", "1", "--graph", "flow_of_test_new").code == 0
    wrong = on_db("resume", "t", "--graph", f"{GRAPHS}.counting", "--json")
    assert (wrong.code, wrong.json["error"]["type"]) == (3, "ThreadMismatch")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", f"{GRAPHS}.counting", "--input", '{"numbr": 1}'], "numbr"),
        (["run", f"{GRAPHS}.counting", "--input", "{"], "not JSON"),
        (["run", f"{GRAPHS}.asking"], "amount, answers"),
        (["run", f"{GRAPHS}.countin"], "Did you mean"),
        (["run", f"{GRAPHS}.broken", "--input", "{}"], "line 3"),
        (["run", f"{GRAPHS}.various:remembering", "--input", "{}"], "own checkpointer"),
    ],
)
def test_what_cannot_run_writes_nothing(
    runtime: Runtime, empty_database_url: str, arguments: list[str], word: str
) -> None:
    done = runtime("--db", empty_database_url, *arguments, "--json")
    assert (done.code, done.json["status"], done.json["thread_id"]) == (3, "failed", None)
    assert word in done.json["error"]["message"]
    assert word in done.err
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'runtime'").fetchall() == []


def test_conflicts_are_shown_and_counted(
    on_db: Runtime, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTESTED_URL", database_url)
    done = on_db("run", f"{GRAPHS}.contested", "--input", '{"left": 2}')
    assert done.code == 0
    assert done.out.count("facts of decide changed") == 2
    assert "3 attempts" in done.out

    (tmp_path / "runtime.toml").write_text("[run]\nmax_attempts = 2\n")
    gave_up = on_db("run", f"{GRAPHS}.contested", "--input", '{"left": 9}', "--thread", "t", "--json")
    assert (gave_up.code, gave_up.json["error"]["type"]) == (5, "ConflictExhausted")
    assert "runtime resume t" in gave_up.json["error"]["what_to_do"]
    monkeypatch.setenv("RUNTIME_MAX_ATTEMPTS", "40")
    assert on_db("resume", "t").code == 0
