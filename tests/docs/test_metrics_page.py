"""docs/metrics.md: its commands run, its node notes what it read, its bounds are those of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.coherence.record import MOST
from superstep.runtime.exposition import prometheus
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from tests.docs.pages import Shell

PAGE = page("metrics.md")


class State(TypedDict, total=False):
    """What the node of the page takes and gives."""

    account: int
    balance: int


async def test_the_node_notes_what_it_read(database_url: str) -> None:
    async def cache(key: str) -> dict[str, Any]:
        return {"balance": 7, "at": 1_800_000_000}

    names: dict[str, Any] = {"cache": cache}
    (source,) = blocks(PAGE, "python")
    exec(source, names)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        builder = StateGraph(State).add_node("check", names["check"]).add_node("again", names["check"])
        builder.add_edge(START, "check").add_edge("check", "again")
        flow = transactional(builder.compile(checkpointer=saver))
        await flow.ainvoke({"account": 1}, {"configurable": {"thread_id": "t"}})
        (found,) = (await saver.ametrics()).coherence.divergences
    assert (found.label[0], found.before, found.after, found.moved) == ("account:1", "check", "again", 0)


def test_the_commands_run(shell: Shell) -> None:
    shown = perform(commands(PAGE), shell, {})
    assert len(shown) == 5
    assert "superstep_window_seconds 86400.0" in str(shown)


def test_the_bounds_are_those_of_the_code() -> None:
    assert MOST == 12
    assert "at most twelve keys" in PAGE
    assert prometheus.MOST == 50
    assert "the fifty worst" in PAGE
