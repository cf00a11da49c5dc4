"""Answers of language models, remembered inside a super-step: an LLM call is paid once.

`StepMemo` is LangChain's own kind of cache, so any `BaseChatModel` used in a node goes through it. Its key is the place
in the run plus the request; the answer is durable before the node sees it, and is served again when the node runs again
after a conflict, a crash or an answered interrupt. A task that has to run its subgraphs again runs them under other
checkpoints: what was paid in them before is looked for by the names of the nodes. Inside one execution of a node the
n-th identical request has its own answer, so asking a model several times for the same thing still samples several
answers. Requests that failed do not count. A retry by LangGraph's `RetryPolicy` has another attempt number and samples
anew.

A call of a routed model is stopped when a commit of this process moves the facts that it rests on (`in_flight`).

The record of a call (`records`) is stored with its answer, in one statement. An answer that is served again was not
paid again, and nothing is recorded.

A node that iterates `model.astream()` itself is covered for routed models only: they ask a cache that has
`memoises_streams`, where LangChain's own `astream` asks none. (`ainvoke` under `stream_mode="messages"` is covered for
all.) Not covered are models built with `cache=False`; those that are asked in a subgraph compiled with
`checkpointer=False`, where nothing tells which execution of its caller asks; and runs under durability "exit", which
leave nothing behind that could be resumed. Their calls are recorded, and paid again when the caller runs again.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache

from superstep.checkpointer.calls.answers import NotKept, dumped, loaded
from superstep.checkpointer.calls.queries import (
    Callers,
    CallKey,
    CallRow,
    Remembered,
    answer_in,
    record_call,
    remember,
    remember_for_caller,
    remembered,
    take_over,
)
from superstep.checkpointer.calls.records import hidden, row_of_answer
from superstep.checkpointer.calls.requests import answered, number, request_digest
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.encryption import answer_at, keyed
from superstep.checkpointer.langgraph.place import nodes_around
from superstep.checkpointer.step.in_flight import Call
from superstep.checkpointer.step.task import TaskState
from superstep.checkpointer.threads.current import paying_task
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.runtime.faults import NoActiveStep

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import asyncpg
    from langchain_core.outputs import Generation

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt, Task
    from superstep.checkpointer.threads.current import CurrentTask
    from superstep.checkpointer.threads.run import Run

__all__ = ["StepMemo", "install"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a call's answer is remembered: it is the `nth` such request of one execution of a task."""

    step: SuperStep
    attempt: Attempt
    request: bytes
    nth: int

    @property
    def task(self) -> Task:
        """Whose execution it is."""
        return self.step.tasks[self.attempt.task_id]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a model inside a super-step; without a place its answer is recorded, and not remembered."""

    task: CurrentTask
    place: _Place | None
    began: float = field(default_factory=time.perf_counter)

    @property
    def run(self) -> Run:
        return self.task.run

    def answered(self, paid: Sequence[Generation] | None = None) -> None:
        """`paid`: the answer, unless it is served again."""
        if self.place is None:
            return
        answered(self.place.attempt, self.place.request, self.place.nth)
        if (trace := self.place.attempt.trace) is None:
            return
        if paid is None:
            trace.reused()
        elif (row := row_of_answer(self.task.place.node, paid)).route is None:  # else its route has told
            trace.called(row.model, row.input_tokens, row.output_tokens, self.began)


# LangChain looks a request up and stores its answer in one coroutine, so the call travels in the context.
_call: ContextVar[_Call | None] = ContextVar("superstep_llm_call", default=None)


class StepMemo(BaseCache):
    """The memo; outside of super-steps, and for first answers inside, the cache that was set before it."""

    memoises_streams = True

    def __init__(self, outer: BaseCache | None = None) -> None:
        self.outer = outer

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        """The answer this execution, or an earlier one at the same place, got for its n-th such request."""
        call = _begin(prompt, llm_string)
        if call is None:
            return await self.outer.alookup(prompt, llm_string) if self.outer else None
        return _found(call, await call.run.database.home.call(self._find(call, prompt, llm_string)))

    async def _find(self, call: _Call, prompt: str, llm_string: str) -> Any:
        run, database, place = call.run, call.run.database, call.place
        if place is None:
            return await self.outer.alookup(prompt, llm_string) if self.outer else None
        # The key has the checkpoint that the super-step starts from, and a crash before that is committed gives the
        # step another one, under which a paid answer would not be found.
        await run.begun(call.task.place.ns, call.task.checkpoint_id)
        key, request = CallKey.of(call.task), await self._request(call.run, place)
        what, since = (request, place.nth), place.task.answers_since
        row = await database.autocommit(lambda conn: remembered(conn, database.schema, key, *what, since))
        if row is None or not row["owned"]:
            raise run.stale()
        place.task.answers_since = row["since"]
        if row["kind"] is None and run.options.trial_of is not None:
            return await self._as_decided(call, run.options.trial_of, request)
        if row["kind"] is None and call.task.place.ns:
            row = await self._given_before(call.task, place, key, request)
        if row["kind"] is not None:
            place.step.costs.llm_reused += 1
            return loaded(answer_at(run.serde, run.thread_id, request), row["kind"], row["answer"])
        return await self.outer.alookup(prompt, llm_string) if self.outer else None

    async def _as_decided(self, call: _Call, thread_id: str, request: bytes) -> Any:
        """What the thread that is decided again was answered, each answer once and in their order; else nothing."""
        run, database = call.run, call.run.database
        nth = run.answers_used[request]
        run.answers_used[request] += 1
        row = await database.autocommit(lambda conn: answer_in(conn, database.schema, thread_id, request, nth))
        if row is None or call.place is None:
            return None
        call.place.step.costs.llm_reused += 1
        return loaded(answer_at(run.serde, thread_id, request), row["kind"], row["answer"])

    async def _given_before(self, task: CurrentTask, asked: _Place, key: CallKey, request: bytes) -> asyncpg.Record:
        """What the same nodes were answered when a caller that has to run again ran this subgraph before."""
        run, place, database = task.run, task.place, task.run.database
        checkpoints = [each for ns, each in place.checkpoint_map.items() if ns != place.ns]
        key = key.since(asked.task.answers_since or 1)
        where = nodes_around(place.ns), Callers(checkpoints, run.caller_ids(place.ns))
        tries = 0

        async def taken(conn: Connection) -> asyncpg.Record | None:
            nonlocal tries
            tries += 1
            with run.stores_below(place.ns):
                asked.step.check(asked.attempt)
                row = await take_over(conn, database.schema, key, request, asked.nth, *where)
            if row["kind"] is not None or tries == 1:
                return row
            # A try before may have taken it, and lost the answer of the server.
            what = (request, asked.nth, asked.task.answers_since)
            return await remembered(conn, database.schema, CallKey.of(task), *what)

        row = await database.autocommit(taken)
        if row is None or not row["owned"]:
            raise run.stale()
        return row

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store a paid answer durably before the node gets it.

        Whatever it says, its call is recorded and the node gets it. One that no encoding holds (`answers`) is not kept.
        """
        call = _take()
        if call is not None:
            await call.run.database.home.call(self._store(call, return_val))
            call.answered(return_val)
        if self.outer:
            with _harmless(call):
                await self.outer.aupdate(prompt, llm_string, return_val)

    @asynccontextmanager
    async def in_flight(self, work: asyncio.Task[Any] | None = None) -> AsyncIterator[Callable[[], None]]:
        """Around what is paid for an answer that `alookup` did not have, in the task that has asked it.

        Yields:
            What raises `StepConflict` once a commit has moved the facts that the call rests on: to be called when
            `work` was cancelled, which happens then, or between the pieces of a stream.
        """
        call = _call.get()
        if call is None or call.place is None:
            yield _never
            return
        run, place = call.run, call.place
        flying = Call(place.step, place.attempt, work)

        async def begin() -> None:
            run.in_flight.begins(flying)

        async def end() -> None:
            run.in_flight.ends(flying)

        def check() -> None:
            if flying.stopped:
                place.step.check(place.attempt)

        await run.database.home.call(begin())
        try:
            yield check
        finally:
            await run.database.home.call(end())

    async def _store(self, call: _Call, answer: Sequence[Generation]) -> None:
        await failpoints.hit("memo.before_store")
        run, database = call.run, call.run.database
        place, what = call.place, None
        key = CallKey.of(call.task).since((place.task.answers_since if place is not None else None) or 1)
        row = hidden(run, key, row_of_answer(call.task.place.node, answer))
        try:
            if place is not None:
                request = await self._request(run, place)
                what = Remembered(request, place.nth, *dumped(answer_at(run.serde, run.thread_id, request), answer))
        except NotKept as why:
            _log.warning(
                "What a model said to node %r cannot be kept (%s). The call is recorded and the node has its answer, "
                "but a node that runs again pays for another one",
                call.task.place.node,
                why,
            )
        if what is None:
            stored = await database.autocommit(lambda conn: record_call(conn, database.schema, key, row))
        else:
            stored = await database.autocommit(lambda conn: _remember(conn, call, key, row, what))
        if not stored:
            raise run.stale()
        await failpoints.hit("memo.stored")

    async def _request(self, run: Run, place: _Place) -> bytes:
        """The digest of a request as it is stored: with encryption, one that says nothing of the request."""
        return keyed(await digest_key(run.database, run.serde), place.request)

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """`alookup` for synchronous model calls; blocks the calling thread."""
        call = _begin(prompt, llm_string)
        if call is None:
            return self.outer.lookup(prompt, llm_string) if self.outer else None
        return _found(call, call.run.database.home.block(self._find(call, prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """`aupdate` for synchronous model calls; blocks the calling thread."""
        call = _take()
        if call is not None:
            call.run.database.home.block(self._store(call, return_val))
            call.answered(return_val)
        if self.outer:
            with _harmless(call):
                self.outer.update(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Clear the outer cache. The memo belongs to its threads and goes with them."""
        if self.outer:
            self.outer.clear(**kwargs)


def install() -> None:
    """Make the memo LangChain's global cache, in front of the one that was set before. Safe to call repeatedly."""
    cache = get_llm_cache()
    if not isinstance(cache, StepMemo):
        set_llm_cache(StepMemo(cache))


async def _remember(conn: Connection, call: _Call, key: CallKey, row: CallRow, answer: Remembered) -> bool:
    """Store an answer where it will be looked for; false if the run does not own its thread.

    A caller may have drifted while the answer was on its way. What its subgraphs have stored is forgotten then, and the
    answers in it are handed to the caller. This one is either there in time to be among those, for that waits for what
    is being stored, or is handed to the caller itself.
    """
    run, place = call.run, call.task.place
    with run.stores_below(place.ns):
        drifted = [caller for caller in run.callers(place.ns) if caller.task.state is TaskState.DRIFTED]
        if not drifted:
            return await remember(conn, run.database.schema, key, row, answer)
        outermost = min(drifted, key=lambda caller: len(caller.step.ns))
        at = outermost.step.checkpoint_id, outermost.task.id
        return await remember_for_caller(conn, run.database.schema, key, row, answer, nodes_around(place.ns), at)


def _never() -> None:
    """Of calls that nobody stops."""


def _begin(prompt: str, llm_string: str) -> _Call | None:
    """The call that is being made here; `None` outside of super-steps."""
    call = _here(prompt, llm_string)
    _call.set(call)
    return call


def _here(prompt: str, llm_string: str) -> _Call | None:
    try:
        task = paying_task()
    except NoActiveStep:
        return None
    if task.runs_apart or task.run.saves_at_exit(task.place.ns):
        return _Call(task, None)
    request = request_digest(prompt, llm_string)
    step, attempt = task.enter()
    return _Call(task, _Place(step, attempt, request, number(attempt, request)))


def _take() -> _Call | None:
    """The call whose answer has come, if there is one to be stored."""
    call = _call.get()
    if call is not None:
        _call.set(None)
    return call


def _found(call: _Call, answer: Any) -> Any:
    if answer:
        _call.set(None)
        call.answered()
    return answer


@contextmanager
def _harmless(call: _Call | None) -> Iterator[None]:
    """What the outer cache fails with does not take an answer away that is paid and kept; without a call it does."""
    try:
        yield
    except Exception:
        if call is None:
            raise
        _log.warning("The cache that was set before could not store an answer; the super-step has it", exc_info=True)
