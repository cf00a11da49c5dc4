"""docs/child-runs.md: its examples run, its command is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import TransactionalSaver, transactional
from superstep.runtime.cli.run.send import send
from tests.docs.pages import blocks, commands, page
from tests.runtime.workers.conftest import until, working

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAGE = page("child-runs.md")
MADE: dict[str, Any] = {}
LOAN, APPROVE, CONFIRM = blocks(PAGE, "python")


class Loan(TypedDict, total=False):
    loan: str
    bureaus: list[str]
    children: list[str]
    scores: list[Any]
    approved: Any
    sure: bool


class Query(TypedDict, total=False):
    name: str
    score: int


async def score(state: Query) -> Any:
    if state["name"] == "none":
        raise ValueError("no such bureau")
    return {"score": len(state["name"])}


async def ask(_: Loan) -> Any:
    return {"approved": interrupt("Approve?")}


def graph_of(*nodes: Any, state: Any = Loan) -> Any:
    builder = StateGraph(state)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder.compile()


async def test_the_examples(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    for block in (LOAN, APPROVE, CONFIRM):
        exec(block, names)
    flows: dict[str, Any] = {
        "bureau": graph_of(score, state=Query),
        "loans": graph_of(names["ask_bureaus"], names["decide"], ask),
        "confirming": graph_of(names["confirm"]),
    }
    MADE.update(flows)
    monkeypatch.chdir(tmp_path)
    for name in flows:
        (tmp_path / name).mkdir()
        (tmp_path / name / "flow.py").write_text(f"from {__name__} import MADE\n\nflow = MADE[{name!r}]\n")
    conn = await asyncpg.connect(database_url)
    await conn.execute("CREATE TABLE loan (id text, state text); CREATE TABLE approval (thread text)")
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        flow = transactional(flows["loans"].copy(update={"checkpointer": saver}), name="loans.flow")
        config: Any = {"configurable": {"thread_id": "L-1"}}

        async def asks() -> bool:
            return [each.value for each in (await flow.aget_state(config)).interrupts] == ["Approve?"]

        async with working(saver):
            await saver.fleet.submit("loans.flow", {"loan": "1", "bureaus": ["one", "three", "none"]}, thread="L-1")
            await until(asks)
            await names["approve"](conn, "L-1")

            async def is_approved() -> Any:
                return (await flow.aget_state(config)).values.get("approved")

            assert await until(is_approved) == {"approved": True}
        assert (await flow.aget_state(config)).values["scores"] == [3, 5, "none: ValueError: no such bureau"]
        sure = transactional(flows["confirming"].copy(update={"checkpointer": saver}))
        there: Any = {"configurable": {"thread_id": "c"}}
        assert (await sure.ainvoke({"loan": "1"}, there))["__interrupt__"][0].value == "Pay?"
        assert (await sure.ainvoke(Command(resume=True), there))["sure"] is True
    await conn.close()


def test_the_command_is_one() -> None:
    (line,) = commands(PAGE)
    options = {option for each in send.params for option in each.opts}
    assert line.startswith("runtime send pay --value ")
    assert {"--value", "--interrupt"} <= options
