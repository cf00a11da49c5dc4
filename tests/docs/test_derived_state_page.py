"""docs/derived-state.md: its settings, file, commands and code do what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import START, StateGraph

from superstep import Aggregate, TransactionalSaver, pump, transactional
from superstep.runtime.settings.derived import derived
from superstep.runtime.settings.lines import dotted
from superstep.runtime.settings.settings import load_settings
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("derived-state.md")


class State(TypedDict, total=False):
    """What the node of the page takes and gives."""

    card: str
    risky: bool


def written(folder: Path) -> list[Aggregate]:
    """The page's files, in the folder; its declarations."""
    (folder / "runtime.toml").write_text(blocks(PAGE, "toml")[0])
    (folder / "payments.jsonl").write_text(blocks(PAGE, "json")[0])
    return derived(load_settings(folder=folder, env={}).derived, dotted)[0]


def test_the_commands_do_what_the_page_says(shell: Shell, tmp_path: Path) -> None:
    written(tmp_path)
    shown = perform(commands(PAGE), shell)
    assert shown["runtime ingest payments.jsonl"].startswith("2 events ingested")
    assert "2 quarantined" in shown["runtime ingest payments.jsonl"]
    aside = shown["runtime ingest quarantine"]
    assert "misfit" in aside
    assert "unknown-type" in aside
    assert "count: 2" in shown["runtime ingest show velocity C-1"]
    assert "sum: 19.75" in shown["runtime ingest show velocity C-1"]
    assert shown["runtime ingest replay"].startswith("0 events ingested · 2 still")
    assert shown["runtime ingest rebuild velocity"] == "velocity: built from 2 events\n"


def test_every_key_of_a_declaration_is_described() -> None:
    described = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert described == {"events", "where", "key", "compute", "value", "window", "step", "lateness", "top"}


async def test_the_node_decides_on_signals(database_url: str, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    read, feed = blocks(PAGE, "python")
    exec(read, names)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.ingestion.declare(*written(tmp_path))
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE review (card text, point bigint)")
        lines = blocks(PAGE, "json")[0].encode().splitlines()
        exec(feed, names)
        client = _Client([b'{"id": %d, ' % nth + line[1:] for nth, line in enumerate(lines[:2])])
        done = await pump(saver.ingestion, names["Feed"](client))
        assert (done.counts.events, client.acknowledged) == (2, 1)
        graph = (
            StateGraph(State).add_node("decide", names["decide"]).add_edge(START, "decide").compile(checkpointer=saver)
        )
        run = {"configurable": {"thread_id": "t"}}
        assert (await transactional(graph).ainvoke({"card": "C-1"}, run))["risky"]  # type: ignore[arg-type]
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT point FROM review") == 1


class _Client:
    """Of the feed of the page."""

    def __init__(self, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.acknowledged = -1

    async def read(self, begin: int) -> list[tuple[int, bytes]]:
        assert all(json.loads(body) for body in self.bodies)
        return list(enumerate(self.bodies))[begin:]

    async def acknowledge(self, position: int) -> None:
        self.acknowledged = position
