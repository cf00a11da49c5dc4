"""Answers that are sent from elsewhere: queued by a transaction of the sender's own, delivered by a worker."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import OF_RUN, WAKE
from superstep.checkpointer.database.errors import MISSING_TABLES, schema_missing
from superstep.checkpointer.effects.queue import Job, put_jobs
from superstep.checkpointer.fleet.runs import Request
from superstep.checkpointer.fleet.stored import dump_request
from superstep.checkpointer.langgraph.encryption import encrypts
from superstep.checkpointer.langgraph.ids import usable_thread
from superstep.checkpointer.langgraph.serializer import strict
from superstep.checkpointer.step.emitting import document_of, require_queue
from superstep.runtime.faults import AnswerRefused, ConfigError, ThreadBusy, ThreadNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["asend"]

_LEAST = 4  # characters of an interrupt's id that may stand for it


async def asend(
    conn: asyncpg.Connection[asyncpg.Record],
    thread: str,
    value: Any,
    *,
    interrupt: str | None = None,
    schema: str = "runtime",
    serde: SerializerProtocol | None = None,
) -> str:
    """Answer the question that a thread waits at. A worker then runs the thread on with it.

    The answer is part of the transaction that the connection is in: it exists if that commits, and not at all if it
    rolls back. Outside of a transaction it exists when this returns.

    It is for the question that is open now, and for no other. If that is not open any more when a worker comes to
    deliver it (somebody was faster, its time was over, the facts that it was asked on have changed), it is refused:
    `runtime runs --state failed` lists it, with the reason.

    Args:
        conn: of asyncpg, to the database of the thread.
        thread: id of the thread.
        value: the answer: a pydantic model, or what JSON can say.
        interrupt: id of the question, or its beginning, if the thread waits at several.
        schema: of the saver.
        serde: the saver's, if what it stores is encrypted. `saver.asend` knows it.

    Returns:
        The id of the run that carries it.

    Raises:
        ThreadNotFound: there is no such thread.
        AnswerRefused: the thread asks nothing, or not that; its time is over; or it asks several questions, and
            `interrupt` says nothing.
        ThreadBusy: it is being run, and has asked nothing yet.
        ValueNotSerializable: the value is nothing that JSON can say.
        ConfigError: the schema's values are encrypted, and no serializer was given; the package of the queue is not
            installed; the connection is none of asyncpg.
    """
    require_queue("asend()")
    if not hasattr(conn, "is_in_transaction"):
        raise ConfigError(f"asend() takes a connection of asyncpg, not a {type(conn).__name__}.")
    answer = json.loads(document_of(value, f"The answer to thread {thread!r}", "Give asend()"))
    run_id = uuid.UUID(bytes=os.urandom(16), version=4)
    try:
        async with conn.transaction():
            rows = await queries.questions(conn, schema, usable_thread(thread))
            row = _meant(thread, rows, interrupt)
            if (serde is None or not encrypts(serde)) and await queries.is_encrypted(conn, schema):
                raise ConfigError(
                    f"What is stored in schema {schema!r} is encrypted, and asend() was given no key. Use "
                    f"saver.asend(conn, ...), with a saver that has the EncryptedSerializer."
                )
            kind, stored = dump_request(serde or strict(), Request(answer), OF_RUN, str(run_id))
            new = queries.Answering(run_id, thread, row["graph"], row["number"], row["name"], kind, stored, "sent")
            await queries.answer(conn, schema, new)
            await put_jobs(conn, schema, [Job(WAKE, str(run_id).encode())])
    except MISSING_TABLES as e:
        raise schema_missing(schema) from e
    return str(run_id)


def _meant(thread: str, rows: Sequence[asyncpg.Record], interrupt: str | None) -> asyncpg.Record:
    """The question that an answer is for."""

    def refused(why: str) -> AnswerRefused:
        return AnswerRefused(f"Thread {thread!r} {why} Nothing was sent.", thread=thread, interrupt=interrupt)

    if not rows:
        raise ThreadNotFound(f"There is no thread {thread!r}. `runtime threads` lists those that there are.")
    asked = [row for row in rows if row["name"] is not None and row["child_id"] is None]
    ids = ", ".join(row["name"] for row in asked)
    if not asked and rows[0]["runs"]:
        raise ThreadBusy(f"Thread {thread!r} is being run, and asks nothing yet. Nothing was sent; try again later.")
    if not asked and rows[0]["name"] is not None:
        raise refused("waits for a child run, and for no answer. It goes on when that has ended.")
    if not asked:
        raise refused(
            "asks nothing. See how it stands with `runtime show`; what was asked before release 0.2 is "
            "answered with `runtime resume`."
        )
    if interrupt is not None:
        of_name = [row for row in asked if row["name"].startswith(interrupt)] if len(interrupt) >= _LEAST else []
        if len(of_name) != 1:
            raise refused(f"asks no question {interrupt!r}, or several that begin so. It asks {ids}.")
        asked = of_name
    if len(asked) > 1:
        raise refused(f"asks {len(asked)} questions: {ids}. Say which one is meant (interrupt=..., --interrupt).")
    (row,) = asked
    if row["is_late"]:
        raise refused(f"asks {row['name']} until a time that is over. It is answered as its node has said.")
    if row["graph"] is None:
        raise refused(
            "has no graph that a worker could load. Give transactional() a name, or answer it yourself with "
            "Command(resume=...)."
        )
    return row
