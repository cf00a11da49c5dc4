"""Statements about queued runs. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.pool import AnyConnection

__all__ = [
    "Ended",
    "NewRun",
    "Outlook",
    "Wanted",
    "at_work",
    "beat",
    "claim",
    "drop_limit",
    "ended",
    "fence",
    "graph_of_effect",
    "graphs",
    "has_begun",
    "leave",
    "limits",
    "look",
    "pass_gate",
    "put_back",
    "renew",
    "runs",
    "set_limit",
    "submit",
    "take_over",
]

_sql = beside(__file__)


class NewRun(NamedTuple):
    """The row of a run that is submitted; `delay` in seconds."""

    run_id: UUID
    thread_id: str
    graph: str
    tenant: str
    key: str | None
    priority: int
    kind: str
    request: bytes
    delay: float


class Wanted(NamedTuple):
    """What a worker asks for.

    Attributes:
        graphs: those that it has.
        mine: runs that it has, and does not want again.
        worker: its id.
        lease: seconds.
    """

    graphs: Sequence[str]
    mine: Sequence[UUID]
    worker: UUID
    lease: float


class Outlook(NamedTuple):
    """What a look has found: see the statement `look`."""

    waits: bool
    is_left: bool
    until: float | None


class Ended(NamedTuple):
    """How a run has ended: the delivery names the worker that says so."""

    run_id: UUID
    delivery: int
    state: str
    error: str | None


async def submit(conn: AnyConnection, schema: str, new: Sequence[NewRun]) -> None:
    """Have runs wait."""
    await conn.execute(_sql(schema)["submit"], *map(list, zip(*new, strict=True)))


async def look(conn: Connection, schema: str, wanted: Wanted) -> Outlook:
    """Whether there may be a run to claim."""
    row = await conn.fetchrow(_sql(schema)["look"], list(wanted.graphs), list(wanted.mine))
    assert row is not None  # noqa: S101 - it selects an aggregate
    return Outlook(*row)


async def pass_gate(conn: Connection, schema: str, most: int) -> int:
    """Be alone in giving out runs until the transaction ends. How many were given out before."""
    return int(await conn.fetchval(_sql(schema)["pass_gate"], most))


async def take_over(conn: Connection, schema: str, wanted: Wanted, most: int) -> Sequence[asyncpg.Record]:
    """Runs whose workers have let go of them."""
    sql = _sql(schema)["take_over"]
    return await conn.fetch(sql, list(wanted.graphs), list(wanted.mine), most, wanted.worker, wanted.lease)


async def claim(conn: Connection, schema: str, wanted: Wanted, most: int, before: int) -> Sequence[asyncpg.Record]:
    """The next runs that wait, in the order in which they are to start. Behind the gate only."""
    sql = _sql(schema)["claim"]
    rows = await conn.fetch(sql, list(wanted.graphs), most, wanted.worker, wanted.lease, before)
    return sorted(rows, key=lambda row: int(row["place"]))


async def fence(conn: Connection, schema: str, thread_id: str, workers: Sequence[UUID]) -> None:
    """Fence what workers may still be at on a thread."""
    await conn.execute(_sql(schema)["fence"], thread_id, list(workers))


async def has_begun(conn: Connection, schema: str, thread_id: str, run: UUID) -> bool:
    """Whether the input of a run is in its thread."""
    return bool(await conn.fetchval(_sql(schema)["has_begun"], thread_id, str(run)))


async def renew(
    conn: Connection, schema: str, worker: UUID, runs: Sequence[tuple[UUID, int]], lease: float
) -> set[UUID]:
    """Renew the leases of runs, each with its delivery. Those that are this worker's still."""
    ids, deliveries = [run for run, _ in runs], [delivery for _, delivery in runs]
    return {row["run_id"] for row in await conn.fetch(_sql(schema)["renew"], worker, ids, deliveries, lease)}


async def ended(conn: Connection, schema: str, ends: Sequence[Ended]) -> set[UUID]:
    """Record how runs ended. Those that no other worker has."""
    return {row["run_id"] for row in await conn.fetch(_sql(schema)["ended"], *map(list, zip(*ends, strict=True)))}


async def at_work(conn: Connection, schema: str, thread_id: str, worker: UUID) -> list[tuple[UUID, int]]:
    """The run that a worker is at on a thread, if it is at one, with its delivery; locked till the transaction ends."""
    return [(row["run_id"], row["delivery"]) for row in await conn.fetch(_sql(schema)["at_work"], thread_id, worker)]


async def put_back(
    conn: Connection, schema: str, run: UUID, delivery: int, delay: float, error: str | None, *, failed: bool
) -> asyncpg.Record | None:
    """Have a run wait again; `None` if another worker has it."""
    return await conn.fetchrow(_sql(schema)["put_back"], run, delivery, delay, error, failed)


async def graphs(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """Graphs of runs that have not ended, and whether a worker has them."""
    return await conn.fetch(_sql(schema)["graphs"])


async def runs(
    conn: Connection, schema: str, most: int, state: str | None, thread_id: str | None, before: int | None
) -> Sequence[asyncpg.Record]:
    """A page of runs, the latest first."""
    return await conn.fetch(_sql(schema)["runs"], most, state, thread_id, before)


async def beat(
    conn: Connection, schema: str, worker: UUID, place: tuple[str, int], graphs: Sequence[str], size: int, lease: float
) -> None:
    """A sign of life of a worker at this host and process."""
    await conn.execute(_sql(schema)["beat"], worker, *place, list(graphs), size, lease)


async def leave(conn: Connection, schema: str, worker: UUID) -> None:
    """Be no worker any more."""
    await conn.execute(_sql(schema)["leave"], worker)


async def limits(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """All limits."""
    return await conn.fetch(_sql(schema)["limits"])


async def set_limit(conn: Connection, schema: str, scope: str, name: str, most: int) -> None:
    """Set a limit."""
    await conn.execute(_sql(schema)["set_limit"], scope, name, most)


async def drop_limit(conn: Connection, schema: str, scope: str, name: str) -> bool:
    """Whether there was such a limit."""
    return await conn.fetchrow(_sql(schema)["drop_limit"], scope, name) is not None


async def graph_of_effect(conn: Connection, schema: str, effect_id: str) -> asyncpg.Record | None:
    """The `topic` of an effect, and the `graph` of the thread that has emitted it, if that is known."""
    return await conn.fetchrow(_sql(schema)["graph_of_effect"], effect_id)
