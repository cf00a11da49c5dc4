"""How long threads are kept: rules, what they would take, and the sweep that takes it beside live flows.

A sweep takes threads in the order of their ids, some at a time, each time in a transaction of its own: those that have
2,000 checkpoints together, or a single one that has more. So it keeps no lock for long, and what it has done stays done
if it is stopped. Which interleavings could break it, and what stops them:

*A thread is run, or resumed, while the sweep is under way.* Whoever runs a thread claims it first, which updates its
row: the sweep asks for the rule once more under the row's lock, and a thread that has changed is not old any more. What
it skips because somebody has it locked is looked at by the next sweep. So it waits for no flow.

*A run that has claimed a thread long ago, and thinks*: its process gives signs of life, and the thread is not taken.
(Runs of plain LangGraph give none. One that has stored nothing for as long as the rule says loses its thread; it stores
nothing after that, and is told.)

*A human answers a question meanwhile*: as above. Threads that wait for an answer are not taken at all, unless the rule
says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.langgraph.channels import QUESTIONS
from superstep.checkpointer.threads.queries import maintenance
from superstep.checkpointer.threads.queries import retention as queries
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Retention", "Rule", "Sizes", "Swept", "count", "sizes", "sweep"]

_AT_ONCE = 100  # threads in one transaction at most
_TELLING = 500  # rows of a sample that tell how much a thread takes


@dataclass(frozen=True, slots=True)
class Rule:
    """When threads are old, and what becomes of them.

    Attributes:
        ttl: they have not changed for so long; `None` keeps them for ever.
        keep_latest: they keep their latest state and lose the history before it, instead of being deleted.
        keep_interrupted: those that wait for a human's answer are left as they are.
    """

    ttl: timedelta | None = None
    keep_latest: bool = False
    keep_interrupted: bool = True

    def __post_init__(self) -> None:
        if self.ttl is not None and self.ttl <= timedelta(0):
            raise ConfigError("A time to live must be longer than nothing: it would take threads that just ended.")


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules of a database.

    Attributes:
        rule: for graphs that have none of their own.
        graphs: by name.
    """

    rule: Rule = Rule()
    graphs: Mapping[str, Rule] = field(default_factory=dict)

    def each(self) -> list[tuple[queries.Due, Rule]]:
        """The rules that take anything, as statements say it."""
        named = sorted(self.graphs)
        return [
            (
                queries.Due(graph, named, rule.ttl, not rule.keep_interrupted, QUESTIONS, rule.keep_latest),
                rule,
            )
            for graph, rule in [*((name, self.graphs[name]) for name in named), (None, self.rule)]
            if rule.ttl is not None
        ]


class Swept(NamedTuple):
    """What a sweep has taken, or would take.

    Attributes:
        deleted: threads that are gone.
        shortened: threads that lost their history.
        bytes: about how much that was. Postgres uses the room again; VACUUM FULL gives it back to the disk.
    """

    deleted: int
    shortened: int
    bytes: int


class Sizes(NamedTuple):
    """How much room threads take.

    Attributes:
        tables: bytes by table, with indexes, as the disk has it.
        graphs: by graph, its threads and about how many bytes their rows take.
        threads: the largest threads, about.
        all_threads: how many there are.
        sampled: some tables are large: of their pages some were looked at, and the others taken to be like them.
    """

    tables: dict[str, int]
    graphs: list[tuple[str | None, int, int]]
    threads: list[ThreadSize]
    all_threads: int
    sampled: bool


class ThreadSize(NamedTuple):
    """About how many bytes the rows of a thread take."""

    thread_id: str
    graph: str | None
    status: str
    updated_at: datetime
    bytes: int


async def sizes(database: Database, most: int) -> Sizes:
    """How much room threads take; of the largest, `most`. Of large tables it reads a sample."""
    schema = database.schema
    tables = await database.autocommit(lambda conn: queries.by_table(conn, schema))
    shares = queries.shares(tables)
    graphs = await database.autocommit(lambda conn: queries.by_graph(conn, schema, shares))
    sampled = min(shares) < 100
    return Sizes(
        {row["of_table"]: row["bytes"] for row in tables},
        [(row["graph"], row["threads"], row["bytes"]) for row in graphs],
        await _largest(database, shares, most, sampled=sampled),
        await count(database),
        sampled,
    )


async def _largest(database: Database, shares: Sequence[float], most: int, *, sampled: bool) -> list[ThreadSize]:
    """The largest threads. Those of which a sample has seen too few rows are measured."""
    schema, many = database.schema, 3 * most if sampled else most
    rows = await database.autocommit(lambda conn: queries.by_thread(conn, schema, shares, many))
    doubtful = [row["thread_id"] for row in rows if sampled and row["seen"] < _TELLING]
    measured = await database.autocommit(lambda conn: queries.bytes_of_threads(conn, schema, doubtful))
    found = [
        ThreadSize(
            **{name: row[name] for name in ("thread_id", "graph", "status", "updated_at")},
            bytes=measured.get(row["thread_id"], row["bytes"]),
        )
        for row in rows
    ]
    return sorted(found, key=lambda each: (-each.bytes, each.thread_id))[:most]


async def count(database: Database) -> int:
    """How many threads there are."""
    return await database.autocommit(lambda conn: queries.count_threads(conn, database.schema))


async def sweep(
    database: Database, serde: SerializerProtocol | None, rules: Retention, *, dry_run: bool = False
) -> Swept:
    """Take what the rules say; with `dry_run` only say what that would be: how many threads exactly, bytes about.

    Args:
        database: where the threads are.
        serde: the saver's serializer, which finds out what a latest state needs. Not needed to delete whole threads.
        rules: what is old.
        dry_run: change nothing.

    Raises:
        ConfigError: a rule keeps latest states, and no serializer is given.
        ValueNotAuthentic: likewise, and the threads are encrypted with another key.
    """
    if serde is None and any(rule.keep_latest for _, rule in rules.each()):
        raise ConfigError("To keep latest states takes a saver that can read them: call it on a TransactionalSaver.")
    total = Swept(0, 0, 0)
    for due, rule in rules.each():
        take = partial(_take, schema=database.schema, serde=serde, due=due, rule=rule, dry_run=dry_run)
        if dry_run:
            total = _sum(total, await _would_take(database, due, rule, take))
            continue
        async for ids in _batches(database, due):
            total = _sum(total, (await database.autocommit(partial(take, ids=ids))).swept)
    return total


def _sum(one: Swept, other: Swept) -> Swept:
    return Swept(*(each + more for each, more in zip(one, other, strict=True)))


async def _batches(database: Database, due: queries.Due) -> AsyncIterator[list[str]]:
    after = ""
    while True:
        find = partial(queries.due, schema=database.schema, rule=due, after=after, most=_AT_ONCE)
        found = await database.autocommit(find)
        if not found:
            return
        for ids in _bounded(found):
            yield ids
        after = found[-1].thread_id


def _bounded(found: Sequence[queries.Found]) -> Iterator[list[str]]:
    """Threads for one transaction after the other."""
    ids: list[str] = []
    checkpoints = 0
    for each in found:
        if ids and checkpoints + each.checkpoints > queries.COUNTED:
            yield ids
            ids, checkpoints = [], 0
        ids.append(each.thread_id)
        checkpoints += each.checkpoints
    if ids:
        yield ids


async def _would_take(
    database: Database, due: queries.Due, rule: Rule, take: Callable[..., Awaitable[_Taken]]
) -> Swept:
    """What a sweep by one rule would take.

    How much of a thread its history is, some threads are asked: these are shortened, and that is rolled back.
    """
    schema = database.schema
    tables = await database.autocommit(lambda conn: queries.by_table(conn, schema))
    shares, of_threads = queries.shares(tables), queries.share_of_threads(tables)
    many, size = await database.autocommit(lambda conn: queries.due_sums(conn, schema, due, shares))
    if not rule.keep_latest:
        return Swept(many, 0, size)
    some = await database.autocommit(
        lambda conn: queries.some_due(conn, schema, due, _AT_ONCE, of_threads)
    ) or await database.autocommit(lambda conn: queries.due(conn, schema, due, "", _AT_ONCE))
    for ids in _bounded(some):
        taken = await database.autocommit(partial(take, ids=ids))
        return Swept(0, many, round(size * taken.swept.bytes / max(taken.of, 1)))
    return Swept(0, 0, 0)


class _Taken(NamedTuple):
    """What was taken of threads, and about how many bytes they had."""

    swept: Swept
    of: int


async def _take(
    conn: Connection,
    *,
    schema: str,
    serde: SerializerProtocol | None,
    due: queries.Due,
    rule: Rule,
    ids: Sequence[str],
    dry_run: bool,
) -> _Taken:
    """Take what is old of these threads, in one transaction. A dry run shortens them too, and rolls back."""
    transaction = conn.transaction(isolation="read_committed")
    await transaction.start()
    try:
        locked = await queries.lock_due(conn, schema, due, ids)
        before = sum((await queries.bytes_of_threads(conn, schema, locked)).values())
        if serde is not None and rule.keep_latest:
            from superstep.checkpointer.threads.maintenance import keep_latest  # with LangGraph: it takes a second

            for thread_id in locked:
                await keep_latest(conn, schema, serde, thread_id)
            left = sum((await queries.bytes_of_threads(conn, schema, locked)).values())
            taken = Swept(0, len(locked), before - left)
        else:
            await maintenance.delete_threads(conn, schema, locked)
            taken = Swept(len(locked), 0, before)
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.rollback() if dry_run else transaction.commit())
    return _Taken(taken, before)
