"""Declarations, and building an aggregate anew from the kept events.

Each function is one transaction that takes the lock of the ingestion point first, like a batch: so no batch is under
way that maintains an aggregate by what it was before. An aggregate is emptied and built in chunks, so that batches get
in between: they keep their events and leave the aggregate alone until its last chunk has reached the ingestion point.
A chunk of events ends where a batch ends, so how far it is built is one number.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from superstep.checkpointer.derived import queries
from superstep.checkpointer.derived.folding import Fold, Seen
from superstep.checkpointer.derived.paths import Misfit, loads
from superstep.checkpointer.derived.windows import microseconds
from superstep.runtime.faults import AggregateNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.derived.aggregates import Aggregate

__all__ = ["begin", "build", "declare", "drop", "found"]

CHUNK = 20_000  # events


async def declare(conn: Connection, schema: str, wanted: Sequence[Aggregate]) -> list[str]:
    """Make these the declarations of their names, and say which of them have to be rebuilt.

    A new one is ready at once if no event has been ingested. One that means something else than what was built is
    outdated from now on: no batch maintains it, no step can read it, until it is rebuilt.
    """
    texts = queries.sql(schema)
    async with conn.transaction(isolation="serializable"):
        await queries.lock(conn, schema)
        known = {row["name"]: row for row in await queries.aggregates(conn, schema)}
        any_event = await conn.fetchval(texts["any_event"])
        for each in wanted:
            row, spec = known.get(each.name), json.dumps(each.spec)
            meant = (each.name, spec, each.fingerprint, microseconds(each.window), microseconds(each.step))
            if row is None:
                status = "outdated" if any_event else "ready"
                await conn.execute(texts["insert_aggregate"], *meant, status)
            elif row["fingerprint"] != each.fingerprint:
                await conn.execute(texts["declare_anew"], *meant)
                if not any_event:
                    await conn.execute(texts["built"], row["id"], 0, 0, "ready")
            elif json.loads(row["spec"]) != each.spec:
                await conn.execute(texts["redescribe"], each.name, spec)
        return [row["name"] for row in await queries.aggregates(conn, schema) if row["status"] != "ready"]


async def begin(conn: Connection, schema: str, name: str) -> int:
    """Give an aggregate up, to build it anew: neither batches nor steps use it. Returns the point to reach.

    Raises:
        AggregateNotFound: there is none of that name.
    """
    async with conn.transaction(isolation="serializable"):
        await queries.lock(conn, schema)
        row = found(await queries.aggregates(conn, schema), name)
        await conn.execute(queries.sql(schema)["begin_building"], row["id"])
        return await queries.point(conn, schema)


async def build(conn: Connection, schema: str, name: str) -> tuple[int, int, bool]:
    """Take the next chunk of old rows away, or else add the next one of events.

    Returns the point reached, how many events were added, and whether that was all.

    Repeating one whose COMMIT was not answered goes on behind it. Two that build the same take turns. If it was
    declared otherwise meanwhile, there is nothing to do: it is outdated again.
    """
    texts = queries.sql(schema)
    async with conn.transaction(isolation="serializable"):
        await queries.lock(conn, schema)
        row = found(await queries.aggregates(conn, schema), name)
        now = await queries.point(conn, schema)
        if row["status"] != "building":
            return now, 0, True
        if row["upto"] < 0:
            if not await queries.empty(conn, schema, row["id"], CHUNK):
                await conn.execute(texts["built"], row["id"], 0, 0, "building")
            return 0, 0, False
        reached = await conn.fetchval(texts["next_chunk"], row["upto"], CHUNK)
        reached = now if reached is None else reached
        plan, fold, misfits = queries.plan_of(row), Fold(), 0
        rows = await conn.fetch(texts["events_between"], row["upto"], reached, list(plan.aggregate.events))
        for each in rows:
            payload = loads(each["payload"])
            try:
                given = plan.contribution(payload)
            except Misfit:
                misfits += 1  # it was ingested before the aggregate was declared so
                continue
            if given is None:
                continue
            place = (each["partition_id"], each["position"], each["type"], each["at"], each["behind"], payload)
            fold.add(Seen(*place), [(plan, given)])
        await queries.add_fold(conn, schema, fold)
        done = reached >= now
        await conn.execute(texts["built"], row["id"], reached, misfits, "ready" if done else "building")
        return reached, len(rows) - misfits, done


async def drop(conn: Connection, schema: str, name: str) -> bool:
    """Delete a chunk of an aggregate, at last itself; its events stay. Returns whether that is done.

    Raises:
        AggregateNotFound: there is none of that name.
    """
    async with conn.transaction(isolation="serializable"):
        await queries.lock(conn, schema)
        row = found(await queries.aggregates(conn, schema), name)
        await conn.execute(queries.sql(schema)["begin_building"], row["id"])  # a part of it is not to be read
        if await queries.empty(conn, schema, row["id"], CHUNK):
            return False
        await conn.execute(queries.sql(schema)["drop_aggregate"], row["id"])
        return True


def found(rows: Sequence[asyncpg.Record], name: str) -> asyncpg.Record:
    """The declaration of a name.

    Raises:
        AggregateNotFound: there is none.
    """
    row = next((each for each in rows if each["name"] == name), None)
    if row is None:
        there = ", ".join(sorted(each["name"] for each in rows)) or "none"
        raise AggregateNotFound(
            f"There is no aggregate {name!r}. Declared: {there}. Declare it as [derived.{name}] in runtime.toml and "
            f"run `runtime ingest`, or by `saver.ingestion.declare(...)`."
        )
    return row
