"""How long threads are kept: rules, what they would take, and the sweep that takes it beside live flows.

A sweep takes threads in the order of their ids, some at a time, each time in a transaction of its own. Which
interleavings could break it, and what stops them:

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
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Retention", "Rule", "Sizes", "Swept", "count", "sizes", "sweep"]

_AT_ONCE = 100  # threads in one transaction


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
    """

    tables: dict[str, int]
    graphs: list[tuple[str | None, int, int]]
    threads: list[ThreadSize]
    all_threads: int


class ThreadSize(NamedTuple):
    """About how many bytes the rows of a thread take."""

    thread_id: str
    graph: str | None
    status: str
    updated_at: datetime
    bytes: int


async def sizes(database: Database, most: int) -> Sizes:
    """How much room threads take; of the largest, `most`. Reads every row's header once."""
    schema = database.schema
    tables = await database.autocommit(lambda conn: queries.by_table(conn, schema))
    graphs = await database.autocommit(lambda conn: queries.by_graph(conn, schema))
    threads = await database.autocommit(lambda conn: queries.by_thread(conn, schema, most))
    return Sizes(
        {row["of_table"]: row["bytes"] for row in tables},
        [(row["graph"], row["threads"], row["bytes"]) for row in graphs],
        [ThreadSize(*row) for row in threads],
        await count(database),
    )


async def count(database: Database) -> int:
    """How many threads there are."""
    return await database.autocommit(lambda conn: queries.count_threads(conn, database.schema))


async def sweep(
    database: Database, serde: SerializerProtocol | None, rules: Retention, *, dry_run: bool = False
) -> Swept:
    """Take what the rules say; with `dry_run` only count it.

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
        async for ids in _batches(database, due):
            taken = await database.autocommit(
                partial(_take, schema=database.schema, serde=serde, due=due, rule=rule, ids=ids, dry_run=dry_run)
            )
            total = Swept(*(one + other for one, other in zip(total, taken, strict=True)))
    return total


async def _batches(database: Database, due: queries.Due) -> AsyncIterator[list[str]]:
    after = ""
    while True:
        find = partial(queries.due, schema=database.schema, rule=due, after=after, most=_AT_ONCE)
        ids = await database.autocommit(find)
        if not ids:
            return
        yield ids
        after = ids[-1]


async def _take(
    conn: Connection,
    *,
    schema: str,
    serde: SerializerProtocol | None,
    due: queries.Due,
    rule: Rule,
    ids: Sequence[str],
    dry_run: bool,
) -> Swept:
    """Take what is old of these threads, in one transaction. A dry run shortens them too, and rolls back."""
    transaction = conn.transaction(isolation="read_committed")
    await transaction.start()
    try:
        locked = await queries.lock_due(conn, schema, due, ids)
        before = await queries.bytes_of_threads(conn, schema, locked)
        if serde is not None and rule.keep_latest:
            from superstep.checkpointer.threads.maintenance import keep_latest  # with LangGraph: it takes a second

            for thread_id in locked:
                await keep_latest(conn, schema, serde, thread_id)
            taken = Swept(0, len(locked), before - await queries.bytes_of_threads(conn, schema, locked))
        else:
            if not dry_run:  # what goes as a whole is known without that
                await maintenance.delete_threads(conn, schema, locked)
            taken = Swept(len(locked), 0, before)
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.rollback() if dry_run else transaction.commit())
    return taken
