"""A typed function for each statement of `queries.sql`; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.children.spawned import identity, run_of
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.children.spawned import Place, Spawned
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.pool import AnyConnection

__all__ = [
    "Answering",
    "Ended",
    "Question",
    "Spawning",
    "answer",
    "ask",
    "asks",
    "child",
    "deleted",
    "delivers",
    "ended",
    "entered_with",
    "expire",
    "finished_aside",
    "given_up",
    "has_due",
    "how_often_withdrawn",
    "is_encrypted",
    "lifted",
    "questions",
    "settle",
    "spawn",
    "stand_again",
    "taken_back",
    "wake",
]

_sql = beside(__file__)


class Spawning(NamedTuple):
    """What became of a child: its identity; its state, `None` if nothing was put; the one that was spawned before."""

    child_id: str
    state: str | None
    sent: str | None


class Question(NamedTuple):
    """A question that a task has stopped at; see the table. `seconds` and `at`: one of them, or neither."""

    name: str
    task_id: str
    nth: int
    child_id: str | None = None
    seconds: float | None = None
    at: datetime | None = None
    kind: str | None = None
    otherwise: bytes | None = None


class Ended(NamedTuple):
    """What a child has ended with, as it is stored."""

    child_id: str
    kind: str
    outcome: bytes


class Answering(NamedTuple):
    """A run that carries the answer to a question: its row. `why`: "sent" or "expiry"."""

    run_id: UUID
    thread_id: str
    graph: str
    question: int
    asked_as: str
    kind: str
    request: bytes
    why: str


async def spawn(
    conn: Connection, schema: str, thread_id: str, place: Place, children: Sequence[Spawned], choice: str | None
) -> list[Spawning]:
    """Put the children of a task, with their runs. None of them if one is refused."""
    ids = [identity(thread_id, place, child.nth) for child in children]
    rows = await conn.fetch(
        _sql(schema)["spawn"],
        *(thread_id, place.ns, place.nodes, place.checkpoint_id, place.root, place.task_id, place.node, choice),
        *(ids, list(map(run_of, ids))),
        *map(list, zip(*children, strict=True)),
    )
    return [Spawning(row["id"], row["state"], row["sent"]) for row in rows]


async def child(conn: Connection, schema: str, parent: str, thread_id: str) -> asyncpg.Record | None:
    """The child that is meant by its thread."""
    return await conn.fetchrow(_sql(schema)["child"], parent, thread_id)


async def ask(
    conn: Connection, schema: str, thread_id: str, root_id: str, at: tuple[str, str], asked: Sequence[Question]
) -> list[str]:
    """Note questions. The children that are waited for and have ended already. In a READ COMMITTED transaction.

    The rows of the children are locked first, and looked at in a later statement: whoever records an end meanwhile has
    either committed by then, so that it is seen here, or waits, and sees the question.
    """
    sql, children = _sql(schema), [each.child_id for each in asked if each.child_id is not None]
    if children:
        await conn.execute(sql["lock_children"], children)
    await conn.execute(sql["ask"], thread_id, root_id, *at, *map(list, zip(*asked, strict=True)))
    return [row["id"] for row in await conn.fetch(sql["ended_of"], children)] if children else []


async def stand_again(conn: Connection, schema: str, thread_id: str) -> list[str]:
    """The questions that a thread was set back to are open again. As `ask`, the children that have ended already."""
    sql = _sql(schema)
    rows = await conn.fetch(sql["stand_again"], thread_id)
    children = [row["child_id"] for row in rows if row["child_id"] is not None]
    if not children:
        return []
    await conn.execute(sql["lock_children"], children)
    return [row["id"] for row in await conn.fetch(sql["ended_of"], children)]


async def wake(conn: Connection, schema: str, children: Collection[str]) -> int:
    """Have those run on that wait for these children: how many."""
    return int(await conn.fetchval(_sql(schema)["wake"], list(children)))


async def ended(conn: Connection, schema: str, run: UUID, thread_id: str, *, answered: bool) -> list[str]:
    """The children that end with a run, locked."""
    return [row["id"] for row in await conn.fetch(_sql(schema)["ended"], run, thread_id, answered)]


async def taken_back(conn: Connection, schema: str, thread_id: str) -> list[str]:
    """Children that had asked on a thread and whose input was taken back, locked."""
    return [row["id"] for row in await conn.fetch(_sql(schema)["taken_back"], thread_id)]


async def asks(conn: Connection, schema: str, run: UUID) -> None:
    """A child has stopped at a question."""
    await conn.execute(_sql(schema)["asks"], run)


async def settle(conn: Connection, schema: str, state: str, children: Sequence[Ended]) -> None:
    """Record what children have ended with."""
    await conn.execute(_sql(schema)["settle"], state, *map(list, zip(*children, strict=True)))


async def has_due(conn: Connection, schema: str) -> bool:
    """Whether there is something to look after."""
    return bool(await conn.fetchval(_sql(schema)["has_due"]))


async def finished_aside(conn: Connection, schema: str) -> int:
    """Put children back that were finished by somebody who is no worker: how many."""
    return int(await conn.fetchval(_sql(schema)["finished_aside"]))


async def deleted(conn: Connection, schema: str) -> list[str]:
    """Children whose threads were deleted."""
    return [row["id"] for row in await conn.fetch(_sql(schema)["deleted"])]


async def given_up(conn: Connection, schema: str) -> list[str]:
    """Children whose question nobody will answer, locked."""
    return [row["id"] for row in await conn.fetch(_sql(schema)["given_up"])]


async def expire(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """Questions whose time is over, each once."""
    return await conn.fetch(_sql(schema)["expire"])


async def answer(conn: AnyConnection, schema: str, new: Answering) -> None:
    """Queue a run that carries an answer."""
    await conn.execute(_sql(schema)["answer"], *new)


async def questions(conn: AnyConnection, schema: str, thread_id: str) -> Sequence[asyncpg.Record]:
    """A thread with its open questions: no row without the thread, one without a name if it asks nothing."""
    return await conn.fetch(_sql(schema)["questions"], thread_id)


async def delivers(
    conn: Connection, schema: str, thread_id: str, name: str, number: int, run: UUID
) -> asyncpg.Record | None:
    """What has become of a question; `None` if its thread is gone."""
    return await conn.fetchrow(_sql(schema)["delivers"], thread_id, name, number, run)


async def how_often_withdrawn(conn: Connection, schema: str, thread_id: str, number: int) -> int | None:
    """How often the facts of a question had moved; `None` if its task has taken an answer and asks something else."""
    found: int | None = await conn.fetchval(_sql(schema)["how_often_withdrawn"], thread_id, number)
    return found


async def entered_with(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """The latest run of a thread that carried no answer."""
    return await conn.fetchrow(_sql(schema)["entered_with"], thread_id)


async def lifted(conn: Connection, schema: str, thread_id: str, before: str, head: str) -> None:
    """Have a thread that waits for children wait on after it was lifted."""
    await conn.execute(_sql(schema)["lifted"], thread_id, before, head)


async def is_encrypted(conn: AnyConnection, schema: str) -> bool:
    """Whether what savers store in the schema is encrypted."""
    return bool(await conn.fetchval(_sql(schema)["is_encrypted"]))
