"""Statements that commit a checkpoint. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.database.arrays import number_array, text_array
from superstep.checkpointer.langgraph.codec import WriteRows
from superstep.checkpointer.step.tokens import with_parameters_from
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.codec import CheckpointRow
    from superstep.checkpointer.threads.queries.provenance import Kept

__all__ = [
    "Carried",
    "NewCheckpoint",
    "Put",
    "checkpoint_exists",
    "fence",
    "fence_latest",
    "put_after",
    "put_as_owner",
    "put_outside",
    "put_roots",
]

_sql = beside(__file__)


class NewCheckpoint(NamedTuple):
    """A checkpoint to be stored: where it belongs, and its columns.

    Attributes:
        thread_id: the thread.
        ns: the namespace, "" for the outermost graph.
        checkpoint_id: its id.
        parent_id: the checkpoint that its super-step started from.
        row: what it says, and its new channel values.
    """

    thread_id: str
    ns: str
    checkpoint_id: str
    parent_id: str | None
    row: CheckpointRow

    def parameters(self, stats: str | None, writes: WriteRows) -> list[Any]:
        """As every put takes them: the record of the super-step, as JSON, stands between the columns of the row."""
        row = self.row
        references = text_array(row.channels), text_array(row.versions)
        names = text_array(row.new_channels), text_array(row.new_versions), text_array(row.new_kinds)
        new = *names, row.new_values, text_array(row.new_bases)
        columns = row.kind, row.payload, *references, row.metadata, stats, *new
        return [*self[:4], *columns, *_columns_of(writes)]


class Put(NamedTuple):
    """A checkpoint of a run, what is stored along with it, and the run's right to store it.

    Attributes:
        new: the checkpoint.
        stats: the record of the super-step, as JSON.
        writes: results of tasks that are not stored yet.
        token: must be the thread's.
        head: must be the thread's latest checkpoint, if this one is of the outermost graph.
        kept: what results rest on, see `threads.provenance`.
        root: the checkpoint that the outermost super-step started from.
    """

    new: NewCheckpoint
    stats: str | None
    writes: WriteRows
    token: int
    head: str | None
    kept: Sequence[Kept] = ()
    root: str = ""


async def put_as_owner(conn: Connection, schema: str, put: Put) -> bool:
    """Store a checkpoint of a run; false if the run has no right to, or it is there already."""
    is_root = put.new.ns == ""
    parameters = [*put.new.parameters(put.stats, put.writes), put.token]
    if put.kept:
        sql = _sql(schema)["put_root_kept" if is_root else "put_nested_kept"]
        parameters += (put.head if is_root else put.root, *_columns_of_kept(put.kept))
    elif is_root:
        sql = _sql(schema)["put_root"]
        parameters.append(put.head)
    else:
        sql = _sql(schema)["put_nested"]
    return await conn.fetchval(sql, *parameters) is not None


class Carried(NamedTuple):
    """What became of a checkpoint, and how many rows the write in front of it has touched."""

    rows: int
    stored: bool


async def put_after(conn: Connection, schema: str, put: Put, write: str, args: Sequence[Any]) -> Carried:
    """As `put_as_owner`, for the root namespace and with nothing `kept`, behind a write.

    The write is INSERT, UPDATE or DELETE without RETURNING, and one that the database is known to accept: no other text
    may be part of a larger one.
    """
    parameters = [*put.new.parameters(put.stats, put.writes), put.token, put.head]
    ((rows, stored, _),) = await conn.fetch(_put_after(schema, write, len(parameters)), *parameters, *args)
    return Carried(rows, stored)


@lru_cache(maxsize=256)
def _put_after(schema: str, write: str, parameters: int) -> str:
    part = with_parameters_from(write, parameters)
    return f"WITH staged AS (\n{part}\nRETURNING 1), {_sql(schema)['put_root_after']}"


def _columns_of_kept(kept: Sequence[Kept]) -> Iterator[list[Any]]:
    rows = [
        (*each[:3], text_array(each.callers), text_array(each.channels), each.kind, each.effect)  # of several lengths
        for each in kept
    ]
    return map(list, zip(*rows, strict=True))


async def put_roots(conn: Connection, schema: str, puts: Sequence[Put]) -> set[str]:
    """`put_as_owner` for checkpoints of outermost graphs, each of another thread: the threads whose was stored.

    Nothing is `kept` of them.
    """
    given: list[tuple[Any, ...]] = []
    channels: list[str] = []
    versions: list[str] = []
    values: list[tuple[Any, ...]] = []
    writes: list[tuple[Any, ...]] = []
    for at, put in enumerate(puts, 1):
        new, row = put.new, put.new.row
        first = len(channels) + 1
        channels += row.channels
        versions += row.versions
        place = (new.thread_id, new.checkpoint_id, new.parent_id, row.kind, row.payload, row.metadata, put.stats)
        given.append((*place, put.token, put.head, first, len(channels)))
        values += zip(repeat(at), *row[5:])
        writes += zip(repeat(at), *put.writes)
    *places, kinds, payloads, metadata, stats, tokens, heads, firsts, lasts = _columns(given, 11)
    of, *names, data, bases = _columns(values, 6)
    by, *columns = _columns(writes, 7)
    parameters = [
        *map(text_array, (*places, kinds)),
        payloads,
        metadata,
        stats,
        number_array(tokens),
        text_array(heads),
        *map(number_array, (firsts, lasts)),
        channels,
        versions,
        *(number_array(of), *map(text_array, names), data, text_array(bases)),
        *(number_array(by), *_columns_of(WriteRows(*columns))),
    ]
    return {row[0] for row in await conn.fetch(_sql(schema)["put_roots"], *parameters)}


def _columns_of(writes: WriteRows) -> tuple[Any, ...]:
    """As statements take them."""
    texts = text_array(writes.paths), text_array(writes.channels), text_array(writes.kinds)
    return text_array(writes.tasks), number_array(writes.idx), *texts, writes.values


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


async def put_outside(conn: Connection, schema: str, new: NewCheckpoint, stats: str | None, *, continues: bool) -> bool:
    """Store a checkpoint that no run makes, and fence every run of the thread.

    False if it `continues` a checkpoint that is not the latest of its namespace any more. Of a subgraph, lock the
    thread before.
    """
    parameters = new.parameters(stats, WriteRows.none())
    return await conn.fetchval(_sql(schema)["put_outside"], *parameters, continues) is not None


async def fence_latest(conn: Connection, schema: str, thread_id: str, ns: str, checkpoint_id: str) -> bool:
    """As `fence`, if this is the latest checkpoint of its namespace; whether it is."""
    return await conn.fetchval(_sql(schema)["fence_latest"], thread_id, ns, checkpoint_id) is not None


async def fence(conn: Connection, schema: str, thread_id: str) -> None:
    """Take the thread from whoever runs it. Does nothing to one that does not exist."""
    await conn.execute(_sql(schema)["fence"], thread_id)


async def checkpoint_exists(conn: Connection, schema: str, new: NewCheckpoint) -> bool:
    """Whether a checkpoint of that thread, namespace and id is stored."""
    return bool(await conn.fetchval(_sql(schema)["exists"], *new[:3]))
