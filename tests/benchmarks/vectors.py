"""Agents that search a vector index, think, and insert what they found: held transactions against super-steps.

Neither HNSW nor IVFFlat supports predicate locks, so inside a SERIALIZABLE transaction a search locks the whole index:
a transaction held open while the model thinks conflicts with every insert that anybody makes meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
from langgraph.graph import END, START, StateGraph

from superstep import RuntimeFault, current_step, transactional
from superstep.checkpointer import TransactionalSaver
from tests.benchmarks.section import Curves, Goal, Section
from tests.benchmarks.setting import thread
from tests.benchmarks.tables import number, ratio, table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.benchmarks.setting import Place

    Agent = Callable[[int], Awaitable[int]]

__all__ = ["run"]

DIMENSIONS = 64
ROWS = 4000
THINKING = 0.1
_SEARCH = "SELECT id, embedding <=> $1::text::vector AS distance FROM memory ORDER BY 2, id LIMIT 4"
_INSERT = "INSERT INTO memory (content, metadata, embedding) VALUES ($1, '{}', $2::text::vector)"


class State(TypedDict):
    """Which agent this is."""

    agent: int


def _vector() -> list[float]:
    return [random.gauss(0, 1) for _ in range(DIMENSIONS)]


def _text(vector: list[float]) -> str:
    return "[" + ",".join(map(repr, vector)) + "]"


async def run(place: Place) -> Section:
    """The section."""
    await _fill(place)
    rows = [await _compare(place, agents) for agents in (1, 8, 32)]
    head = [
        "agents",
        "held, commits/s",
        "aborted",
        "Superstep, commits/s",
        "repairs a commit",
        "drifts a commit",
        "gave up",
    ]
    agents, held, ours, ideal = (rows[-1][at] for at in (0, 1, 3, 7))
    lines = {"held transactions": [(row[0], row[1]) for row in rows], "Superstep": [(row[0], row[3]) for row in rows]}
    return Section(
        f"## Searching and inserting on one vector index\n\nSearch an HNSW index ({ROWS:,} rows, {DIMENSIONS} "
        f"dimensions), {THINKING} s of a model thinking, insert, commit, everything SERIALIZABLE. *Held*: one "
        "transaction around all of it, retried on 40001. *Superstep*: a flow of one step, committed with its "
        f"checkpoint. *Gave up*: flows that ended with an error and were "
        f"resumed. Upper bound: agents / {THINKING} s.\n\n" + table([*head, "upper bound", "Superstep / held"], rows),
        [
            Goal(
                f"{agents} agents: search and insert on one index, {THINKING} s of thinking",
                f"{number(rows[-1][-1])} times held transactions ({number(ours)} and {number(held)} commits/s), "
                f"{number(ours / ideal)} of the upper bound",
                "10 times, 0.6",
                rows[-1][-1] >= 10 and ours / ideal >= 0.6,
            )
        ],
        [Curves("vectors", "Agents that search and insert", "agents", "commits/s", lines, doubling=True)],
    )


async def _compare(place: Place, agents: int) -> list[Any]:
    held: list[float] = []
    ours: list[float] = []
    commits = aborts = gave_up = 0
    async with _holding(place, agents) as hold, _flows(place, agents) as flow:
        before = await _costs(place)
        for _ in range(place.size(3, 1)):
            speed, done, failed = await _speed(place, hold, agents)
            held.append(speed)
            commits, aborts = commits + done, aborts + failed
            speed, _, failed = await _speed(place, flow, agents)
            ours.append(speed)
            gave_up += failed
        steps, repairs, drifts = (now - then for now, then in zip(await _costs(place), before, strict=True))
    return [
        agents,
        median(held),
        f"{100 * aborts / (aborts + commits):.0f} %",
        median(ours),
        repairs / steps,
        drifts / steps,
        gave_up,
        agents / THINKING,
        ratio(ours, held),
    ]


async def _costs(place: Place) -> tuple[int, int, int]:
    """Super-steps committed so far, and their repairs and drifts."""
    connection = await asyncpg.connect(place.url)
    try:
        row = await connection.fetchrow(
            "SELECT count(*), coalesce(sum((stats ->> 'repairs')::int), 0), coalesce(sum((stats ->> 'drifts')::int), 0)"
            " FROM runtime.checkpoint WHERE stats IS NOT NULL"
        )
    finally:
        await connection.close()
    return tuple(row)


async def _fill(place: Place) -> None:
    connection = await asyncpg.connect(place.url)
    await connection.execute(
        "CREATE EXTENSION IF NOT EXISTS vector;"
        "CREATE TABLE memory (id bigserial PRIMARY KEY, content text NOT NULL, metadata jsonb NOT NULL,"
        f" embedding vector({DIMENSIONS}) NOT NULL)"
    )
    await connection.executemany(_INSERT, [(f"fact {at}", _text(_vector())) for at in range(ROWS)])
    await connection.execute("CREATE INDEX ON memory USING hnsw (embedding vector_cosine_ops); ANALYZE memory")
    await connection.close()


async def _speed(place: Place, agent: Agent, agents: int) -> tuple[float, int, int]:
    """Commits a second of so many agents, all commits, and the attempts that came to nothing."""
    seconds = place.size(6, 2)
    stop = time.perf_counter() + seconds
    in_time = commits = failures = 0

    async def work(number: int) -> None:
        nonlocal in_time, commits, failures
        while time.perf_counter() < stop:
            failed = await agent(number)  # on a line of its own: += would read before the wait
            failures += failed
            commits += 1
            in_time += time.perf_counter() < stop

    await asyncio.gather(*(work(number) for number in range(agents)))
    return in_time / seconds, commits, failures


@asynccontextmanager
async def _holding(place: Place, agents: int) -> AsyncIterator[Agent]:
    """One SERIALIZABLE transaction from the search to the insert, repeated until it commits."""
    settings = {"default_transaction_isolation": "serializable"}
    async with await asyncpg.create_pool(place.url, min_size=1, max_size=agents, server_settings=settings) as pool:

        async def agent(number: int) -> int:
            aborted = 0
            while True:
                try:
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.fetch(_SEARCH, _text(_vector()))
                        await asyncio.sleep(THINKING)
                        await connection.execute(_INSERT, f"agent {number}", _text(_vector()))
                except asyncpg.SerializationError:
                    aborted += 1
                    await asyncio.sleep(random.uniform(0, 0.01))
                else:
                    return aborted

        yield agent


@asynccontextmanager
async def _flows(place: Place, agents: int) -> AsyncIterator[Agent]:
    """The same as a flow of one node; each agent has a thread."""

    async def node(state: State) -> State:
        step = current_step()
        await step.nearest("memory", embedding=_vector(), k=4)
        await asyncio.sleep(THINKING)
        step.stage(_INSERT, f"agent {state['agent']}", _text(_vector()), expect_rows=1)
        return state

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    async with TransactionalSaver.from_conn_string(place.url) as saver:
        await saver.setup()
        flow = transactional(builder.compile(checkpointer=saver))

        async def agent(number: int) -> int:
            failed = 0
            given: State | None = {"agent": number}
            while True:
                try:
                    await flow.ainvoke(given, thread(f"{agents} agents, {number}"))
                except RuntimeFault:
                    failed += 1
                    given = None  # nothing was written: go on with the same step
                else:
                    return failed

        yield agent
