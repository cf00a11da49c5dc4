"""Statements about calls of models. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.threads.current import CurrentTask

__all__ = [
    "CallKey",
    "CallRow",
    "Callers",
    "Remembered",
    "answer_in",
    "deployment_health",
    "record_call",
    "remember",
    "remember_for_caller",
    "remembered",
    "spend",
    "take_over",
]

_sql = beside(__file__)


class CallKey(NamedTuple):
    """Where a call belongs: the execution of a task in a super-step. `token` is the right to store something there.

    Executions of earlier runs count too: see `since`.
    """

    thread_id: str
    ns: str
    checkpoint_id: str
    task_id: str
    attempt: int
    token: int | None

    @classmethod
    def of(cls, task: CurrentTask) -> CallKey:
        """Of the execution that is running."""
        place, run = task.place, task.run
        return cls(run.thread_id, place.ns, task.checkpoint_id, place.task_id, place.attempt, run.token)

    def since(self, attempt: int) -> CallKey:
        """The same execution, if its run counts them from this one."""
        return self._replace(attempt=self.attempt + attempt - 1)


class Callers(NamedTuple):
    """Tasks around a call: the checkpoints that their super-steps started from, and their ids."""

    checkpoint_ids: list[str]
    task_ids: list[str]


class CallRow(NamedTuple):
    """The columns that say what a call was; `record` is the rest, as JSON."""

    id: UUID
    node: str
    outcome: str
    model: str | None
    offline: bool
    input_tokens: int
    output_tokens: int
    usd: float | None
    route: str | None
    record: str


class Remembered(NamedTuple):
    """An answer: digest of the request, which of its identical requests it answers, kind and bytes of the answer."""

    request: bytes
    nth: int
    kind: str
    answer: bytes


async def remembered(
    conn: Connection, schema: str, key: CallKey, request: bytes, nth: int, since: int | None
) -> asyncpg.Record | None:
    """`kind` and `answer`, null if there is none; whether the run still has the thread (`owned`); and `since`.

    The attempts of the key count from `since`, the last one with answers when the run began; `None`: look it up.
    """
    return await conn.fetchrow(_sql(schema)["memo_get"], *key[:-1], request, nth, key.token, since)


async def answer_in(conn: Connection, schema: str, thread_id: str, request: bytes, nth: int) -> asyncpg.Record | None:
    """`kind` and `answer` of the `nth` time that a thread was answered this request, from 0; `None` if it was not."""
    return await conn.fetchrow(_sql(schema)["answer_in"], thread_id, request, nth)


async def take_over(
    conn: Connection, schema: str, key: CallKey, request: bytes, nth: int, nodes: str, callers: Callers
) -> asyncpg.Record:
    """An answer that was paid in a subgraph before its caller ran again becomes this call's.

    `kind` and `answer`, null if there is none, and whether the run still has the thread (`owned`).
    """
    place = *key[:-1], request, nth, key.token
    (row,) = await conn.fetch(_sql(schema)["memo_take_over"], *place, nodes, *callers)
    return row


async def remember(conn: Connection, schema: str, key: CallKey, row: CallRow, answer: Remembered) -> bool:
    """Store an answer and the record of its call, once; false without the right to."""
    return bool(await conn.fetchval(_sql(schema)["memo_put"], *key, *row, *answer))


async def remember_for_caller(
    conn: Connection, schema: str, key: CallKey, row: CallRow, answer: Remembered, nodes: str, caller: tuple[str, str]
) -> bool:
    """`remember`, for a caller that runs again: its subgraphs find it with `take_over`.

    `caller` is the checkpoint that its super-step started from, and its id.
    """
    return bool(await conn.fetchval(_sql(schema)["memo_put_for_caller"], *key, *row, *answer, nodes, *caller))


async def record_call(conn: Connection, schema: str, key: CallKey, row: CallRow) -> bool:
    """Store the record of a call, once; false without the right to."""
    return bool(await conn.fetchval(_sql(schema)["record_call"], *key, *row))


async def spend(
    conn: Connection, schema: str, thread_id: str, route: str | None, seconds: float | None, since: str | None
) -> asyncpg.Record:
    """What a thread (`tokens`, `usd`), its latest run (`run_…`) and a route within a window (`route_…`) have cost.

    The run began with the thread's latest input, or if that is not stored at the checkpoint `since` ("" for none).
    """
    (row,) = await conn.fetch(_sql(schema)["spent"], thread_id, route, seconds, since)
    return row


async def deployment_health(conn: Connection, schema: str, seconds: float) -> Sequence[Any]:
    """How each deployment did in the last `seconds`. See `deployment_health.DeploymentHealth`."""
    return await conn.fetch(_sql(schema)["deployment_health"], seconds)
