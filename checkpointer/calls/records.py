"""What calls of language models cost: one row of `model_call` each, kept with the super-step that made them.

A row is written the moment its call is over, not at the barrier: money is gone whether the step commits or not. The
call's record (route, what was tried, latency, price, …) comes from the code that made it. An answer brings its own
along in `response_metadata["routing"]`, and the memo stores both in one statement; what no answer carries is told
`record_call`.

Records come from outside, and an answer that was paid must not be lost over its bookkeeping: whatever of a record does
not fit its column or JSON is left out.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langgraph.checkpoint.base.id import uuid6

from superstep.checkpointer.calls import queries
from superstep.checkpointer.langgraph.codec import for_jsonb
from superstep.checkpointer.langgraph.encryption import call_column
from superstep.checkpointer.threads.current import paying_task
from superstep.runtime.faults import NoActiveStep
from superstep.runtime.formats import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from langchain_core.outputs import Generation

    from superstep.checkpointer.threads.current import CurrentTask
    from superstep.checkpointer.threads.run import Run

__all__ = ["Spend", "Spent", "hidden", "record_call", "row_of_answer", "spent"]

_CHANCE = random.SystemRandom()  # not the generator that programs seed
_MOST = 2**63 - 1
_EVER = 1e9  # seconds, more than thirty years; an interval in Postgres cannot be much longer


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens in and out, and US dollars as far as prices are known."""

    tokens: int
    usd: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls have cost by now, those of super-steps that have not committed included.

    Attributes:
        thread_id: the thread.
        thread: by the thread, as far as its history is kept.
        run: by the thread since its latest input; a resume continues the run.
        route: by all threads on the route, within the window.
    """

    thread_id: str
    thread: Spend
    run: Spend
    route: Spend


def record_call(record: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
    """Record a call of a model, made by the task running here, whose answer does not go through the memo.

    For calls that failed, and for streams that are not memoised. Durable when what it returns has been awaited, which
    may be later: whose call it is is found out at once. Does nothing outside of super-steps. May be called from any
    event loop; the context has to be that of the task.

    What was not answered has cost all the same, whoever owns the thread by then: it is recorded as long as there is
    the thread.

    Args:
        record: what is known of the call. `outcome` ("answered", anything else is "failed"), `model`, `offline`,
            `input_tokens`, `output_tokens`, `usd` and `route` get columns, the rest is kept as it is.

    Raises:
        StaleRun: a later run owns the thread, or it is gone. Nothing was recorded.
        DatabaseUnavailable: the database did not come back.
    """
    try:
        task = paying_task()
    except NoActiveStep:
        return _nothing()
    row = _row(task.place.node, "answered" if record.get("outcome") == "answered" else "failed", record)
    return _recorded(task, row)


async def _nothing() -> None:
    """Of calls outside of super-steps."""


async def _recorded(task: CurrentTask, row: queries.CallRow) -> None:
    await task.run.database.home.call(_record(task, row))


async def _record(task: CurrentTask, row: queries.CallRow) -> None:
    """Record a call that the task made. On the saver's loop.

    Raises:
        StaleRun: see `record_call`. Nothing was recorded.
    """
    database, key = task.run.database, queries.CallKey.of(task)
    if row.outcome != "answered":
        key = key._replace(token=None)
    row = hidden(task.run, key, row)
    if not await database.autocommit(lambda conn: queries.record_call(conn, database.schema, key, row)):
        raise task.run.stale()


async def spent(*, route: str | None = None, window: float | None = None) -> Spent | None:
    """What the thread, the run and a route have cost when the task running here asks. One round trip.

    May be called from any event loop; the context has to be that of the task.

    Args:
        route: name of the route; without one its spend is 0.
        window: only what the route has cost in the last so many seconds; `None`: ever, as far as histories are kept.

    Returns:
        `None` outside of super-steps.

    Raises:
        StaleRun: the run that the task belongs to has ended.
        DatabaseUnavailable: the database did not come back.
    """
    try:
        task = paying_task()
    except NoActiveStep:
        return None
    seconds = None if window is None else min(window, _EVER)
    return await task.run.database.home.call(_spent(task, route, seconds))


async def _spent(task: CurrentTask, route: str | None, seconds: float | None) -> Spent:
    run, database = task.run, task.run.database
    since = None
    if run.saves_at_exit(""):
        since = run.head or ""
    elif run.has_loaded(""):
        # LangGraph may still be saving the input that the run began with, and until then that of the run before counts.
        await run.committed("", task.root_checkpoint_id)
    row = await database.autocommit(
        lambda conn: queries.spend(conn, database.schema, run.thread_id, route, seconds, since)
    )
    return Spent(
        thread_id=run.thread_id,
        thread=Spend(row["tokens"], row["usd"]),
        run=Spend(row["run_tokens"], row["run_usd"]),
        route=Spend(row["route_tokens"], row["route_usd"]),
    )


def hidden(run: Run, key: queries.CallKey, row: queries.CallRow) -> queries.CallRow:
    """The row as it is stored: with encryption, of its record only what the server has to sum up lies open."""
    return row._replace(record=call_column(run.serde, row.record, key.thread_id, key.ns, row.node))


def row_of_answer(node: str, answer: Sequence[Generation]) -> queries.CallRow:
    """The row of a call from its answer: by the record it brings along, else by what LangChain says of it."""
    model: Any = None
    tokens_in = tokens_out = 0
    record: Mapping[str, Any] = {}
    for generation in answer:
        message = getattr(generation, "message", None)
        if isinstance(message, AIMessage):
            metadata = message.response_metadata
            model = model or metadata.get("model_name") or metadata.get("model")
            usage = message.usage_metadata
            if isinstance(usage, dict):
                tokens_in += _count(usage.get("input_tokens"))
                tokens_out += _count(usage.get("output_tokens"))
            if not record and isinstance(metadata.get(RECORD_KEY), dict):
                record = metadata[RECORD_KEY]
    said = {"model": model, "input_tokens": tokens_in, "output_tokens": tokens_out}
    return _row(node, "answered", {**said, **record}, record)


def _row(node: str, outcome: str, known: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> queries.CallRow:
    """`known` fills the columns, and is the record itself unless that is given."""
    model = _text(known.get("model"))
    return queries.CallRow(
        id=uuid6(_CHANCE.getrandbits(48), _CHANCE.getrandbits(14)),
        node=_text(node) or "?",
        outcome=outcome,
        model=model,
        offline=known.get("offline") is True or model == "offline",
        input_tokens=_count(known.get("input_tokens")),
        output_tokens=_count(known.get("output_tokens")),
        usd=_money(known.get("usd")),
        route=_text(known.get("route")),
        record=_json(known if record is None else record),
    )


def _text(value: Any) -> str | None:
    """Text that Postgres can hold."""
    return value.replace("\0", "").encode(errors="replace").decode() if isinstance(value, str) else None


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MOST else 0


def _money(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < math.inf else None


def _json(record: Mapping[str, Any]) -> str:
    """A record as JSON text, without the fields that JSON cannot say."""
    fields = []
    for name, value in record.items():
        try:
            fields.append(json.dumps({str(name): value}, ensure_ascii=False, allow_nan=False)[1:-1])
        except (TypeError, ValueError, RecursionError):  # a type that JSON lacks, NaN, a circle, too deep
            continue
    return for_jsonb("{" + ", ".join(fields) + "}")
