"""Threads that 0.1.0 wrote are listed, resumed and continued. What is in the database: `generate.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from superstep import TransactionalSaver, current_step, transactional
from superstep.graphs.underwriting.bureau import serve

if TYPE_CHECKING:
    from tests.support.commands import Done, Runtime

THREADS = {
    "completed": ("graphs.underwriting", "completed"),
    "interrupted": ("graphs.underwriting", "interrupted"),
    "killed_thinking": ("graphs.underwriting", "unfinished"),
    "killed_saved": ("graphs.underwriting", "unfinished"),
    "conversation": (None, "completed"),
    "failed": (None, "failed"),
}
DRAWN = "SELECT drawn FROM underwriting.credit_line WHERE id = 'L-A-0001-business_line'"


def one(url: str, sql: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(sql).fetchone()
    return row and row[0]


def completed(done: Done) -> Any:
    assert done.code == 0, done.err
    assert done.json["status"] == "completed"
    return done.json


def calls(report: Any) -> dict[str, tuple[int, int]]:
    """Calls paid and reused, by the nodes of the super-step; of those that had any."""
    counts = {",".join(step["nodes"]): (step["llm_paid"], step["llm_reused"]) for step in report["steps"]}
    return {nodes: count for nodes, count in counts.items() if any(count)}


# -- the command line ------------------------------------------------------------------------------------------------


def test_threads_are_listed(on_old: Runtime) -> None:
    listed = on_old("threads", "--json").json
    assert {each["thread_id"]: (each["graph"], each["status"]) for each in listed} == THREADS


@pytest.mark.parametrize("thread", THREADS)
def test_a_thread_is_shown(on_old: Runtime, thread: str) -> None:
    for command in ("history", "show"):
        done = on_old(command, thread, "--json")
        assert done.code == 0, done.err
        assert done.json
        assert on_old(command, thread).code == 0


def test_history_says_what_was_run(on_old: Runtime) -> None:
    steps = on_old("history", "completed", "--json").json
    assert [step["nodes"] for step in steps] == [
        ["plan"], ["bureau", "exposure", "identity"], ["policy"], ["decide"], ["commit"],
    ]  # fmt: skip
    assert [step["prompts"] for step in steps] == [["underwriting/plan@1"], [], [], ["underwriting/decide@1"], []]


@pytest.mark.parametrize("moved", [(), ("--graph", "superstep.graphs.underwriting")], ids=["old", "new"])
def test_a_question_is_answered(on_old: Runtime, old_url: str, moved: tuple[str, ...]) -> None:
    before = one(old_url, DRAWN)
    shown = on_old("show", "interrupted", "--json").json
    assert shown["interrupts"][0]["value"]["amount"] == 60_000_00
    report = completed(on_old("resume", "interrupted", *moved, "--value", "true", "--json"))
    assert report["graph"] == "graphs.underwriting"
    assert report["values"]["decision"]["reviewed"] is True
    assert report["values"]["decision"]["recorded"] is True
    assert one(old_url, DRAWN) == before + 60_000_00
    assert calls(report) == {"plan": (1, 0), "decide": (1, 0)}  # what 0.1.0 paid, and nothing since


def test_a_call_that_was_paid_is_not_paid_again(on_old: Runtime) -> None:
    report = completed(on_old("resume", "killed_thinking", "--json"))
    assert calls(report) == {"plan": (1, 0), "decide": (1, 1)}


def test_results_that_were_saved_count(on_old: Runtime, old_url: str) -> None:
    """The bureau was asked before the process was killed; it could not be asked again."""
    before = one(old_url, DRAWN)
    report = completed(on_old("resume", "killed_saved", "--json"))
    assert report["values"]["bureau"] == {"score": 622, "defaults": 0}
    assert calls(report) == {"plan": (1, 0), "decide": (1, 0)}
    assert one(old_url, DRAWN) == before + 14_000_00


@pytest.mark.parametrize("name", ["graphs.underwriting", "superstep.graphs.underwriting"])
def test_another_run_on_an_old_thread(on_old: Runtime, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = '{"account_id": "A-0001", "product": "business_line", "amount": 500000, "application_id": "APP-NEW"}'
    with serve() as bureau:
        monkeypatch.setenv("BUREAU_URL", bureau)
        report = completed(on_old("run", name, "--thread", "completed", "--input", given, "--json"))
    assert report["graph"] == "graphs.underwriting"
    assert report["values"]["decision"]["application_id"] == "APP-NEW"
    assert len(on_old("history", "completed", "--json").json) == 10


def test_an_old_checkpoint_is_forked(on_old: Runtime) -> None:
    """From before the decision, which is recorded and so is found."""
    decision_is_next = on_old("history", "completed", "--json").json[2]["checkpoint_id"]
    report = completed(on_old("resume", "completed", "--checkpoint", decision_is_next, "--json"))
    assert report["values"]["decision"]["recorded"] is True


# -- a program of a user's -------------------------------------------------------------------------------------------


def of_thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def test_every_stored_value_is_rebuilt(old_url: str, claims_flow: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with TransactionalSaver.from_conn_string(old_url, serde=claims_flow.serde()) as saver:
        graph = claims_flow.build(current_step).compile(checkpointer=saver)
        states = [state async for state in graph.aget_state_history(of_thread("conversation"))]
        counts = {name: len([found async for found in saver.alist(of_thread(name))]) for name in THREADS}
    assert states[0].values["claim"] == claims_flow.Claim("C-2", 150)
    assert states[0].values["note"] == claims_flow.Note(text="C-2", level=claims_flow.Level.HIGH)
    assert states[0].values["level"] is claims_flow.Level.HIGH
    assert sorted(states[0].values["log"]) == ["book", "book", "judge", "judge", "second", "second"]
    assert counts["conversation"] > len(states) == 10  # those of the subgraph too
    assert all(counts.values())
    assert "Blocked" not in caplog.text


async def test_a_conversation_goes_on(old_url: str, claims_flow: Any) -> None:
    async with TransactionalSaver.from_conn_string(old_url, serde=claims_flow.serde()) as saver:
        flow = transactional(claims_flow.build(current_step).compile(checkpointer=saver))
        out = await flow.ainvoke({"claim": claims_flow.Claim("C-4", 10)}, of_thread("conversation"))
    assert [message.content for message in out["messages"]] == [f"judged: claim C-{n}" for n in (1, 2, 4)]
    assert out["seen"] == 3  # claims that the subgraph remembers, each from a run of its own
    assert len(out["log"]) == 9
    assert one(old_url, claims_flow.BALANCE) == 1000 - 50 - 150 - 10


async def test_what_a_conversation_goes_on_with_builds_on_what_0_1_0_stored(old_url: str, claims_flow: Any) -> None:
    async with TransactionalSaver.from_conn_string(old_url, serde=claims_flow.serde()) as saver:
        flow = transactional(claims_flow.build(current_step).compile(checkpointer=saver))
        said = []
        for n in range(4, 12):
            out = await flow.ainvoke({"claim": claims_flow.Claim(f"C-{n}", 10)}, of_thread("conversation"))
            said.append(out["messages"])
        states = [state async for state in flow.aget_state_history(of_thread("conversation"))]
    assert one(old_url, "SELECT count(*) FROM runtime.channel_value WHERE base IS NOT NULL")
    assert states[0].values["messages"] == said[-1]
    assert [message.content for message in said[-1]][:2] == [f"judged: claim C-{n}" for n in (1, 2)]
    (found,) = (
        state for state in states if state.values.get("claim") == claims_flow.Claim("C-2", 150) and not state.next
    )
    assert len(found.values["messages"]) == 2


async def test_a_failed_step_goes_on_with_what_was_saved(old_url: str, claims_flow: Any) -> None:
    """`book` had finished: neither it nor its model runs again, and what it staged is applied once."""
    async with TransactionalSaver.from_conn_string(old_url, serde=claims_flow.serde()) as saver:
        flow = transactional(claims_flow.build(current_step).compile(checkpointer=saver))
        out = await flow.ainvoke(None, of_thread("failed"))
        report = await flow.areport(of_thread("failed"))
    assert claims_flow.asked == []
    assert sorted(out["log"]) == ["book", "judge", "second"]
    assert out["seen"] == 1
    assert report.status == "completed"
    assert one(old_url, claims_flow.BALANCE) == 1000 - 50 - 150 - 200
