"""How many statements, hence round trips, and how much WAL one super-step costs.

Two runs that differ in nothing but their number of steps are compared, which leaves out what a run costs once.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import asyncpg
from langgraph.graph import END, START, StateGraph

from superstep import current_step
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database.pool import register_codecs
from tests.benchmarks.section import Section
from tests.benchmarks.setting import OURS, UPSTREAM, thread, upstream
from tests.benchmarks.tables import table

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_FEW, _MANY = 10, 60
_READ = "SELECT balance FROM account WHERE id = $1"
_WRITE = "UPDATE account SET balance = balance + 1 WHERE id = $1"
_PLAIN, _WRITING, _FAN = "no reads", "1 read, 1 staged write", "3 parallel tasks, 1 read each"


class State(TypedDict):
    """How often round, and what was seen."""

    left: int
    seen: Annotated[list[int], operator.add]


async def _nothing(state: State) -> dict[str, Any]:
    return {"left": state["left"] - 1}


async def _read_and_write(state: State) -> dict[str, Any]:
    step = current_step()
    await step.fetchval(_READ, 1)
    step.stage(_WRITE, 1, expect_rows=1)
    return {"left": state["left"] - 1}


def _reader(at: int) -> Any:
    async def read(state: State) -> dict[str, Any]:
        await current_step().fetchval(_READ, at)
        return {"left": state["left"] - 1} if at == 1 else {}

    return read


def _loop(saver: BaseCheckpointSaver[Any], *nodes: Any) -> CompiledStateGraph[Any]:
    """All nodes side by side, again and again."""
    builder = StateGraph(State)
    names = [f"task{at}" for at in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
        builder.add_edge(START, name)
    builder.add_conditional_edges("task0", lambda state: END if state["left"] <= 0 else names, [*names, END])
    return builder.compile(checkpointer=saver)


_CASES = {_PLAIN: (_nothing,), _WRITING: (_read_and_write,), _FAN: tuple(_reader(at) for at in (1, 2, 3))}


class _Log:
    """Counts what is sent to the server on the pool's connections."""

    def __init__(self) -> None:
        self.statements: Counter[str] = Counter()

    async def init(self, connection: Any) -> None:
        await register_codecs(connection)
        connection.add_query_logger(self._note)

    def _note(self, record: Any) -> None:
        self.statements[_name(record.query)] += 1


async def run(place: Place) -> Section:
    """The section."""
    setup = await asyncpg.connect(place.url)
    await setup.execute(
        "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);"
        "INSERT INTO account SELECT i, 100 FROM generate_series(1, 3) i"
    )
    rows = []
    for name, nodes in _CASES.items():
        counts, wal = await _ours(place, setup, nodes, reset=_as_it_is)
        with_reset, _ = await _ours(place, setup, nodes, reset=None)
        rows.append([name, OURS, _total(counts), _total(with_reset), wal, _list(counts)])
    async with upstream(place.url, 1) as saver:
        wal = await _wal(setup, _loop(saver, _nothing))
    rows.append([_PLAIN, UPSTREAM, "", "", wal, ""])
    await setup.close()
    head = ["a step with", "saver", "statements", "with asyncpg's pool reset", "WAL bytes", "which"]
    return Section(
        "## Round trips and WAL of a super-step\n\nPer super-step of a running loop, preparing of statements left out. "
        "A pool that is given to `TransactionalSaver` without `reset=` runs asyncpg's reset query at every release.\n\n"
        + table(head, rows)
    )


async def _as_it_is(connection: Any) -> None:
    """What `open_pool` does: no reset query."""


async def _ours(place: Place, setup: Any, nodes: tuple[Any, ...], reset: Any) -> tuple[dict[str, float], int]:
    log = _Log()
    async with await asyncpg.create_pool(place.url, min_size=1, max_size=4, init=log.init, reset=reset) as pool:
        saver = TransactionalSaver(pool)
        await saver.setup()
        graph = _loop(saver, *nodes)
        await _go(graph, _FEW)
        counts = []
        for steps in (_FEW, _MANY):
            log.statements.clear()
            await _go(graph, steps)
            counts.append(log.statements.copy())
        wal = await _wal(setup, graph)
        await saver.aclose()
    few, many = counts
    per_step = {name: (many[name] - few[name]) / (_MANY - _FEW) for name in many}
    return {name: count for name, count in per_step.items() if count}, wal


async def _wal(setup: Any, graph: Any) -> int:
    """Bytes of WAL per super-step. A checkpoint and a run beforehand keep full-page images out as far as possible."""
    await setup.execute("CHECKPOINT")
    await _go(graph, _MANY)
    sizes = []
    for steps in (_FEW, _MANY):
        before = await setup.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        await _go(graph, steps)
        sizes.append(int(await setup.fetchval("SELECT pg_current_wal_insert_lsn() - $1::text::pg_lsn", before)))
    return round((sizes[1] - sizes[0]) / (_MANY - _FEW))


_runs = iter(range(10**9))


async def _go(graph: Any, steps: int) -> None:
    await graph.ainvoke({"left": steps, "seen": []}, thread(f"round trips {next(_runs)}"), durability="sync")


def _name(sql: str) -> str:
    """A statement in a few words: its verb, and what tells it from the others."""
    text = " ".join(sql.split())
    if "old_effects" in text:
        return "put task results"
    if "WITH own AS" in text:
        return "put checkpoint"
    if "pg_advisory_unlock_all" in text:
        return "reset"
    if text.startswith("BEGIN"):
        return "BEGIN and SAVEPOINT"
    return {_READ: "read", _WRITE: "staged write"}.get(text, text[:40])


def _total(counts: dict[str, float]) -> float:
    return round(sum(counts.values()), 2)


def _list(counts: dict[str, float]) -> str:
    return ", ".join(name if count == 1 else f"{count:g} x {name}" for name, count in counts.items())
