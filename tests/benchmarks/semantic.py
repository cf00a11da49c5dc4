"""Collections: flows that search and insert beside the same on a table of one's own, and recall while rows arrive."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
import numpy as np
from langgraph.graph import END, START, StateGraph

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.collections.documents import Document
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.setting import thread
from tests.benchmarks.tables import number, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer.collections.collection import Collection
    from tests.benchmarks.setting import Place

__all__ = ["recall", "run"]

DIMENSIONS = 64
FLOWS, ROUNDS, ROWS, THINKING = 32, 10, 10_000, 0.1
_OWN = "INSERT INTO own (id, content, metadata, embedding) VALUES ($1, '', '{}', $2::text::vector)"


class State(TypedDict):
    """Which flow this is, and which round."""

    n: int


async def run(place: Place) -> Section:
    """The section."""
    async with TransactionalSaver.from_conn_string(place.url) as saver:
        await saver.setup()
        rows = [await _contention(place, saver, kind) for kind in ("a table of one's own", "a collection")]
        size = place.size(50_000, 2_000)
        found = await recall(saver, size, inserts=place.size(2_000, 200), queries=place.size(200, 40))
    (own, ours) = rows
    head = ["what is searched", "commits/s", "executions of the node a commit", "repairs a commit", "upper bound"]
    return Section(
        f"## Collections\n\n{FLOWS} flows on one saver, each {place.size(ROUNDS, 2)} times: search (k=4, {ROWS:,} "
        f"rows, an HNSW index, {DIMENSIONS} dimensions), {THINKING} s of a model thinking, insert one "
        "row, commit. Both indexes have the same parameters; the collection looks at twice as many candidates.\n\n"
        + table(head, rows)
        + f"\nRecall@10 against exact search, {size:,} vectors of {DIMENSIONS} dimensions with an HNSW index, while "
        + "rows are inserted:\n\n"
        + table(["vectors", "recall@10", "searches/s", "rows inserted/s meanwhile", "index built in, s"], [found]),
        [
            Goal(f"recall@10 on {size:,} vectors while rows are inserted", number(found[1]), "0.95", found[1] >= 0.95),
            Goal(
                f"{FLOWS} flows search and insert in one collection: executions of the node a commit",
                f"{number(ours[2])} ({number(own[2])} on a table)",
                "1.05",
                ours[2] <= 1.05,
            ),
        ],
    )


async def _contention(place: Place, saver: TransactionalSaver, kind: str) -> list[Any]:
    chance = random.Random(7)
    executions = 0

    def vector() -> list[float]:
        return [chance.gauss(0, 1) for _ in range(DIMENSIONS)]

    notes = await saver.acollection("bench", dimensions=DIMENSIONS)
    if kind == "a collection":
        await notes.add([Document("", id=f"{n}", embedding=vector()) for n in range(ROWS)])
        await notes.index(force=True)
    else:
        await _fill_own(place, vector)

    async def node(state: State) -> State:
        nonlocal executions
        executions += 1
        step = current_step()
        await step.nearest("bench" if kind == "a collection" else "own", embedding=vector(), k=4)
        await asyncio.sleep(THINKING)
        if kind == "a collection":
            await notes.add([Document("", embedding=vector())])
        else:
            step.stage(_OWN, str(chance.random()), str(vector()))
        return state

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    flow = transactional(builder.compile(checkpointer=saver))

    async def work(n: int) -> None:
        for _ in range(place.size(ROUNDS, 2)):
            await flow.ainvoke({"n": n}, thread(f"{kind} {n}"))

    began = time.perf_counter()
    await asyncio.gather(*(work(n) for n in range(FLOWS)))
    seconds = time.perf_counter() - began
    commits = FLOWS * place.size(ROUNDS, 2)
    steps = [step for n in range(FLOWS) for step in await saver.asteps(f"{kind} {n}")]
    repairs = sum(step.repairs for step in steps)
    return [kind, commits / seconds, executions / commits, repairs / commits, FLOWS / THINKING]


async def _fill_own(place: Place, vector: Callable[[], list[float]]) -> None:
    connection = await asyncpg.connect(place.url)
    await connection.execute(
        f"CREATE TABLE own (id text PRIMARY KEY, content text, metadata jsonb, embedding vector({DIMENSIONS}))"
    )
    await connection.executemany(_OWN, [(f"{n}", str(vector())) for n in range(ROWS)])
    await connection.execute(
        "CREATE INDEX ON own USING hnsw (embedding vector_cosine_ops) WITH (m = 24, ef_construction = 200); ANALYZE own"
    )
    await connection.close()


async def recall(saver: TransactionalSaver, size: int, *, inserts: int, queries: int) -> list[Any]:
    """How many vectors, recall@10, searches and inserted rows a second, and seconds that the index took.

    No direction is more likely than another, which is the hardest case: those of texts cluster.
    """
    chance = np.random.default_rng(11)

    def vectors(number: int) -> np.ndarray[Any, Any]:
        return chance.normal(size=(number, DIMENSIONS))

    notes = await saver.acollection("recall", dimensions=DIMENSIONS)
    await notes.add([Document("", id=f"{n}", embedding=each) for n, each in enumerate(vectors(size))])
    began = time.perf_counter()
    await notes.index(force=True)
    built = time.perf_counter() - began
    asked, more = vectors(queries), vectors(inserts)
    done = 0

    async def insert() -> None:
        nonlocal done
        for at in range(0, inserts, 5):
            await notes.add([Document("", embedding=each) for each in more[at : at + 5]])
            done += 5

    began = time.perf_counter()
    inserting = asyncio.create_task(insert())
    right, searching = 0.0, 0.0
    for query in asked:
        right += await _overlap(saver, notes, list(query))
    searching = time.perf_counter() - began
    speed = done / searching
    await inserting
    began = time.perf_counter()
    for query in asked:
        await notes.search(embedding=list(query), k=10)
    return [size, right / len(asked), len(asked) / (time.perf_counter() - began), speed, built]


async def _overlap(saver: TransactionalSaver, notes: Collection, query: list[float]) -> float:
    """The share of the ten nearest that a search finds, both in one snapshot."""
    from superstep.checkpointer.collections.search import Search
    from superstep.checkpointer.collections.vectors import vector_text

    search = Search(notes.definition, saver.schema, vector_text(notes.definition, query), 10, None, [])
    async with saver.database.connections.borrow() as conn, conn.transaction(isolation="repeatable_read"):
        found = {row["id"] for row in await conn.fetch(search.rows, *search.values)}
        exact = await conn.fetch(
            f"SELECT id FROM {notes.table} ORDER BY (embedding <=> $1::text::vector) + 0, id LIMIT 10", search.vector
        )
    return len(found & {row["id"] for row in exact}) / 10
