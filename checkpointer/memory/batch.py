"""One batch of operations: prepared where it is called, performed in a super-step or in a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp

from superstep.checkpointer.memory import queries
from superstep.checkpointer.memory.namespaces import checked_key, checked_namespace
from superstep.checkpointer.memory.options import checked_ttl, now
from superstep.checkpointer.memory.own_writes import OwnWrites
from superstep.checkpointer.memory.queries import NewVersion
from superstep.checkpointer.memory.reading import Reading
from superstep.checkpointer.memory.values import value_text
from superstep.checkpointer.memory.writing import execute, in_transaction
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.store.base import Op, Result

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.memory.here import Here
    from superstep.checkpointer.memory.options import Options
    from superstep.checkpointer.memory.queries import Statement
    from superstep.checkpointer.memory.rows import Row

__all__ = ["Batch", "perform", "prepare"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations with all that is known before the database is asked.

    Attributes:
        ops: in their order.
        writes: a statement for each item that is put or deleted; of several for one item, the last.
        vectors: by the number of the operation, what is searched for.
    """

    ops: list[Op]
    writes: list[Statement]
    vectors: dict[int, list[float]]

    @property
    def reads(self) -> int:
        """How many operations read."""
        return sum(not isinstance(op, PutOp) for op in self.ops)


async def prepare(ops: list[Op], options: Options, schema: str, here: Here | None) -> Batch:
    """Check operations and embed their texts: outside of any transaction, and once however often that is tried.

    Raises:
        MemoryInvalid: one of them cannot be performed. None is.
    """
    puts: dict[tuple[tuple[str, ...], str], PutOp] = {}
    for op in ops:
        if isinstance(op, PutOp):
            namespace = checked_namespace(op.namespace, writes=op.value is not None)
            puts[tuple(namespace), checked_key(namespace, op.key)] = op
    if puts and options.past is not None:
        raise MemoryInvalid("What the memory said in the past can be read, not changed.")
    new = [(at, op, value_text(op.value)) for at, op in puts.items() if op.value is not None]
    vectors = await options.index.vectors([options.index.texts(op.value or {}, op.index) for _, op, _ in new])
    origin = here.origin() if here is not None and new else None
    history, moment = options.history.total_seconds(), now()
    versions = {
        at: NewVersion(list(at[0]), at[1], text, checked_ttl(op.ttl), found, history, origin, moment)
        for (at, op, text), found in zip(new, vectors, strict=True)
    }
    writes = [
        queries.put(schema, versions[at]) if at in versions else queries.delete(schema, list(at[0]), at[1])
        for at in puts
    ]
    wanted = [(n, op.query) for n, op in enumerate(ops) if isinstance(op, SearchOp) and op.query]
    searched = {n: await options.index.query(query) for n, query in wanted if options.index.is_on}
    return Batch(ops, writes, searched)


async def perform(batch: Batch, options: Options, database: Database, here: Here | None) -> list[Result]:
    """Reads first, then writes. Outside of a super-step in one transaction, unless it is a single read."""
    if here is not None:
        return await _staged(batch, options, database, here)
    if not batch.writes and batch.reads == 1:
        reading, results = await database.autocommit(lambda conn: _read(batch, options, database, conn))
    else:

        async def work(conn: Connection) -> tuple[Reading, list[Result]]:
            done = await _read(batch, options, database, conn)
            await execute(conn, batch.writes)
            return done

        reading, results = await in_transaction(database, work)
    if reading.to_refresh:
        refreshed = _refreshed(reading, database.schema)
        await database.autocommit(lambda conn: execute(conn, refreshed))
    return results


async def _staged(batch: Batch, options: Options, database: Database, here: Here) -> list[Result]:
    own = OwnWrites(here.step.staged if options.past is None else (), database.schema)
    reading = Reading(_Step(here, options.facts), database.schema, options.time(now()), own)
    results = await _results(batch, reading)
    for text, args in (*_refreshed(reading, database.schema), *batch.writes):
        here.step.stage(text, *args)
    return results


def _refreshed(reading: Reading, schema: str) -> list[Statement]:
    """In one order, whoever reads."""
    return [queries.refresh(schema, list(namespace), key) for namespace, key in sorted(set(reading.to_refresh))]


async def _read(batch: Batch, options: Options, database: Database, conn: Connection) -> tuple[Reading, list[Result]]:
    reading = Reading(_Connection(conn), database.schema, options.time(now()), OwnWrites((), database.schema))
    return reading, await _results(batch, reading)


async def _results(batch: Batch, reading: Reading) -> list[Result]:
    results: list[Result] = []
    for n, op in enumerate(batch.ops):
        if isinstance(op, GetOp):
            results.append(await reading.get(op))
        elif isinstance(op, SearchOp):
            results.append(await reading.search(op, batch.vectors.get(n)))
        elif isinstance(op, ListNamespacesOp):
            results.append(await reading.namespaces(op))
        elif isinstance(op, PutOp):
            results.append(None)
        else:
            raise MemoryInvalid(f"There is no such operation of a store: {type(op).__name__}.")
    return results


class _Step:
    """Reads in the snapshot of a super-step."""

    def __init__(self, here: Here, facts: bool) -> None:
        self._step = here.step
        self._facts = facts

    async def fetch(self, statement: Statement, *, fact: bool = True) -> Sequence[Row]:
        text, args = statement
        return await self._step.fetch(text, *args, validate=fact and self._facts)


class _Connection:
    """Reads on a connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def fetch(self, statement: Statement, *, fact: bool = True) -> Sequence[Row]:
        del fact
        text, args = statement
        return await self._conn.fetch(text, *args)
