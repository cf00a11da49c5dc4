"""Statements of a run: taking a thread, loading it, and what is stored on the way to a commit.

Each is one round trip. `schema` is the unquoted name of the saver's schema. `token` is a run's fencing token, `None`
for a caller that is no run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.langgraph.codec import WriteRows
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.keys import Delivery
    from superstep.checkpointer.step.ports import Withdrawal
    from superstep.checkpointer.threads.result import Result

__all__ = [
    "Nested",
    "Taking",
    "checkpoint",
    "claim",
    "claim_again",
    "discard",
    "finish",
    "forget_nested",
    "hypotheses",
    "is_given_out",
    "nested_domain_writes",
    "put_secret",
    "put_writes",
    "secret",
]

_sql = beside(__file__, "parts.sql")


class Taking(NamedTuple):
    """How a thread is taken.

    Attributes:
        graph: the name of the graph that is to run, if it has one.
        worker: who is going to run it, if the run will say when it is over.
        found_at: take it only from this worker, or from nobody; `None` takes it from anyone.
        version: of the graph, and the digest of its structure, if they are known.
        any_version: take it whatever version of its graph it was run with last.
        brings_input: the run begins with new input; `None` if that is not known.
        delivery: take it only if the queued run is this caller's still.
    """

    graph: str | None
    worker: UUID | None
    found_at: tuple[UUID | None] | None
    version: tuple[str, str] | None
    any_version: bool
    brings_input: bool | None
    delivery: Delivery | None


async def claim(conn: Connection, schema: str, thread_id: str, taking: Taking) -> asyncpg.Record | None:
    """Take the thread: `token`, `head`, and `is_new` if there is certainly nothing to load for its outermost graph.

    The thread need not be there.

    Returns:
        `None` if the thread belongs to another graph, to another worker than it was found at, or was run with another
        version; or the queued run is another worker's.
    """
    (expected,) = taking.found_at or (None,)
    version, structure = taking.version or (None, None)
    return await conn.fetchrow(
        _sql(schema)["claim"],
        *(thread_id, taking.graph, taking.worker, taking.found_at is not None, expected),
        *(version, structure, taking.any_version, taking.brings_input),
        *(taking.delivery or (None, None, None, None)),
    )


async def is_given_out(conn: Connection, schema: str, thread_id: str, delivery: Delivery) -> bool:
    """Whether a queued run is this caller's still, and nobody has had the thread since its question was looked at."""
    return bool(await conn.fetchval(_sql(schema)["is_given_out"], *delivery[:3], thread_id))


async def claim_again(
    conn: Connection, schema: str, thread_id: str, token: int, claim_id: UUID
) -> asyncpg.Record | None:
    """Take the thread from the attempt before, which has this token: `token` and `head`.

    Returns:
        `None` if the thread was taken, changed or deleted by somebody else.
    """
    return await conn.fetchrow(_sql(schema)["claim_again"], thread_id, token, claim_id)


async def finish(conn: Connection, schema: str, thread_id: str, token: int, status: str, error: str | None) -> None:
    """Record how a run ended, unless another has taken the thread since."""
    await conn.execute(_sql(schema)["finish"], thread_id, token, status, error)


async def secret(conn: Connection, schema: str, name: str) -> asyncpg.Record | None:
    """`kind` and `value` of a secret of the schema."""
    return await conn.fetchrow(_sql(schema)["secret"], name)


async def put_secret(conn: Connection, schema: str, name: str, kind: str, value: bytes) -> None:
    """Store a secret of the schema, unless there is one of that name."""
    await conn.execute(_sql(schema)["put_secret"], name, kind, value)


async def checkpoint(
    conn: Connection, schema: str, thread_id: str, ns: str, checkpoint_id: str | None
) -> asyncpg.Record | None:
    """A checkpoint with its values and pending writes, as `codec.checkpoint_tuple` takes it; by default the latest."""
    if checkpoint_id:
        return await conn.fetchrow(_sql(schema)["get_one"], thread_id, ns, checkpoint_id)
    return await conn.fetchrow(_sql(schema)["get_latest"], thread_id, ns)


async def hypotheses(
    conn: Connection, schema: str, thread_id: str, ns: str, checkpoint_id: str
) -> Sequence[asyncpg.Record]:
    """What saved results of a super-step rest on (rows with `task_id`), and what its attempts cost (one without)."""
    return await conn.fetch(_sql(schema)["hypotheses"], thread_id, ns, checkpoint_id)


async def put_writes(
    conn: Connection,
    schema: str,
    thread_id: str,
    ns: str,
    checkpoint_id: str,
    results: Sequence[Result],
    token: int | None,
) -> bool:
    """Store results with their effects, in the place of what is there for finished tasks; false without ownership."""
    finished = {r.task_id: sum(i >= 0 for i in r.rows.idx) for r in results if r.finished}
    effects = [(r.task_id, *r.effect) for r in results if r.effect is not None]
    owned = await conn.fetchval(
        _sql(schema)["put_writes"],
        *(thread_id, ns, checkpoint_id),
        *WriteRows.merged(r.rows for r in results),
        *(list(finished), list(finished.values())),
        *([effect[column] for effect in effects] for column in range(3)),
        [r.task_id for r in results if r.forget_memo],
        token,
        any(r.took_answer for r in results),
    )
    return bool(owned)


async def discard(conn: Connection, schema: str, thread_id: str, token: int | None, what: Withdrawal) -> bool:
    """Take back results and note what the super-step has cost; false without ownership."""
    costs = what.costs
    owned = await conn.fetchval(
        _sql(schema)["discard"],
        *(thread_id, what.ns, what.checkpoint_id, token, list(what.tasks)),
        *(costs.attempts, costs.repairs, costs.drifts, costs.llm_reused, what.ms),
        list(what.asked),
        sorted(what.leading),
        *(costs.escalated, costs.waited_ms, json.dumps(costs.conflicts)),
    )
    return bool(owned)


class Nested(NamedTuple):
    """The namespaces of the subgraphs that a task ran, as the statements below take them.

    A subgraph with `checkpointer=True` keeps its namespace, named after the node, from call to call: of it only what
    was made since this super-step began is meant.
    """

    of_task: str
    kept: str
    below_kept: str
    ns: str
    checkpoint_id: str

    @classmethod
    def of(cls, ns: str, checkpoint_id: str, task_id: str, node: str) -> Nested:
        """Of a task by its node, in the super-step that started from a checkpoint of a namespace."""
        kept = _like(f"{ns}|{node}" if ns else node)
        return cls(f"%:{_like(task_id)}%", kept, f"{kept}|%", ns, checkpoint_id)


async def nested_domain_writes(conn: Connection, schema: str, thread_id: str, nested: Nested) -> int:
    """How many domain writes the super-steps of the subgraphs have committed."""
    return int(await conn.fetchval(_sql(schema)["nested_domain_writes"], thread_id, *nested))


async def forget_nested(conn: Connection, schema: str, thread_id: str, nested: Nested, task_id: str) -> None:
    """Delete the checkpoints of the subgraphs, and keep what models have answered in them for the task."""
    await conn.execute(_sql(schema)["forget_nested"], thread_id, *nested, task_id)


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
