"""Answers of language models, remembered inside a super-step: an LLM call is paid once.

`StepMemo` is LangChain's own kind of cache, so any `BaseChatModel` used in a node goes through it. Its key is the place
in the run plus the request; the answer is durable before the node sees it, and is served again when the node runs again
after a conflict, a crash or an answered interrupt. Inside one execution of a node the n-th identical request has its
own answer, so asking a model several times for the same thing still samples several answers. Requests that failed do
not count. A retry by LangGraph's `RetryPolicy` has another attempt number and samples anew.

The record of a call (`calls`) is stored with its answer, in one statement. An answer that is served again was not paid
again, and nothing is recorded.

A node that iterates `model.astream()` itself is covered for routed models only: they ask a cache that has
`memoises_streams`, where LangChain's own `astream` asks none. (`ainvoke` under `stream_mode="messages"` is covered for
all.) Not covered are models built with `cache=False`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, Generation

from superstep.checkpointer.calls import records as calls
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.codec import dump
from superstep.checkpointer.step.step import locate
from superstep.runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.step import Place
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["StepMemo", "install"]


@dataclass(frozen=True, slots=True)
class _Call:
    """The `nth` such request of one execution of a task."""

    place: Place
    step: SuperStep
    attempt: Attempt
    request: bytes
    nth: int


# Fields of messages. An artifact is what a tool keeps from the model.
_NOT_ASKED = ("id", "response_metadata", "usage_metadata", "artifact", "tool_call_chunks", "chunk_position")

# LangChain looks a request up and stores its answer in one coroutine, so the call travels in the context.
_call: ContextVar[_Call | None] = ContextVar("superstep_llm_call", default=None)

# Who waits for an answer, to which request of which execution (its token), and under which number.
_waiting: WeakKeyDictionary[asyncio.Task[Any] | threading.Thread, tuple[str, bytes, int]] = WeakKeyDictionary()
_numbering = threading.Lock()


class StepMemo(BaseCache):
    """The memo; outside of super-steps, and for first answers inside, the cache that was set before it."""

    memoises_streams = True

    def __init__(self, outer: BaseCache | None = None) -> None:
        self.outer = outer

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        """The answer this execution, or an earlier one at the same place, got for its n-th such request."""
        call = _place(prompt, llm_string)
        _call.set(call)
        if call is None:
            return await self.outer.alookup(prompt, llm_string) if self.outer else None
        return _found(call, await call.place.run.engine.on_loop(self._find(call, prompt, llm_string)))

    async def _find(self, call: _Call, prompt: str, llm_string: str) -> Any:
        run, place = call.place.run, call.place
        # The key has the checkpoint that the super-step starts from, and a crash before that is committed gives the
        # step another one, under which a paid answer would not be found.
        await run.committed(place.ns, place.checkpoint_id)
        *key, token = calls.where(place)
        args = (*key, call.request, call.nth, token)
        row = await run.engine.autocommit(lambda conn: conn.fetchrow(run.engine.sql["memo_get"], *args))
        if row is None or not row["owned"]:
            raise run.stale()
        if row["kind"] is not None:
            call.step.costs.llm_reused += 1
            return _load(run.serde.loads_typed((row["kind"], row["answer"])))
        return await self.outer.alookup(prompt, llm_string) if self.outer else None

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store a paid answer durably before the node gets it."""
        if self.outer:
            await self.outer.aupdate(prompt, llm_string, return_val)
        if (call := _call.get()) is not None:
            _call.set(None)
            await call.place.run.engine.on_loop(self._store(call, return_val))
            _answered(call)

    async def _store(self, call: _Call, answer: Sequence[Generation]) -> None:
        await failpoints.hit("memo.before_store")
        run, place = call.place.run, call.place
        kind, data = dump(run.serde, _dumped(answer), "the answer of a language model")
        row = (*calls.where(place), *calls.answered(place.node, answer), call.request, call.nth, kind, data)
        if not await run.engine.autocommit(lambda conn: conn.fetchval(run.engine.sql["memo_put"], *row)):
            raise run.stale()
        await failpoints.hit("memo.stored")

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """`alookup` for synchronous model calls; blocks the calling thread."""
        call = _place(prompt, llm_string)
        _call.set(call)
        if call is None:
            return self.outer.lookup(prompt, llm_string) if self.outer else None
        return _found(call, call.place.run.engine.from_thread(self._find(call, prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """`aupdate` for synchronous model calls; blocks the calling thread."""
        if self.outer:
            self.outer.update(prompt, llm_string, return_val)
        if (call := _call.get()) is not None:
            _call.set(None)
            call.place.run.engine.from_thread(self._store(call, return_val))
            _answered(call)

    def clear(self, **kwargs: Any) -> None:
        """Clear the outer cache. The memo belongs to its threads and goes with them."""
        if self.outer:
            self.outer.clear(**kwargs)


def install() -> None:
    """Make the memo LangChain's global cache, in front of the one that was set before. Safe to call repeatedly."""
    cache = get_llm_cache()
    if not isinstance(cache, StepMemo):
        set_llm_cache(StepMemo(cache))


def _asked(prompt: str) -> str:
    """What LangChain's dump of messages asks, without what no answer depends on.

    Earlier answers are part of the next request of a tool loop. An answer that was just paid for and the same one
    served again differ in what they cost and how long they took, and streamed ones in the pieces they came in.
    """
    try:
        messages = json.loads(prompt)
        dumped = isinstance(messages, list) and all(m["lc"] and isinstance(m["kwargs"], dict) for m in messages)
    except (ValueError, TypeError, LookupError, RecursionError):
        dumped = False
    if not dumped:  # the text that a model which knows no messages is asked
        return prompt
    for message in messages:
        fields = message["kwargs"]
        message["id"] = fields["type"] = str(fields.get("type")).removesuffix("MessageChunk").lower()
        for name in _NOT_ASKED:
            fields.pop(name, None)
    return json.dumps(messages)


def _place(prompt: str, llm_string: str) -> _Call | None:
    try:
        place = locate()
    except NoActiveStep:
        return None
    request = blake2b(_asked(prompt).encode() + b"\0" + llm_string.encode(), digest_size=16).digest()
    step, attempt = place.enter()
    return _Call(place, step, attempt, request, _number(attempt, request))


def _number(attempt: Attempt, request: bytes) -> int:
    """The lowest number without an answer in this execution, and without anybody who waits for one.

    A cache is not told that a call failed or was cancelled. But whoever asks the next thing, or has ended, waits no
    longer, and a request that is made again has the number of the one that failed.
    """
    asker = _asker()
    with _numbering:
        taken = attempt.asked_llm.get(request, 0)
        _waiting.pop(asker, None)
        for other, (token, asked, nth) in _waiting.items():
            if (token, asked) == (attempt.token, request) and not _ended(other):
                taken |= 1 << nth
        nth = (~taken & (taken + 1)).bit_length() - 1  # the lowest bit that is 0
        _waiting[asker] = attempt.token, request, nth
    return nth


def _found(call: _Call, answer: Any) -> Any:
    if answer:
        _call.set(None)
        _answered(call)
    return answer


def _answered(call: _Call) -> None:
    with _numbering:
        asked = call.attempt.asked_llm
        asked[call.request] = asked.get(call.request, 0) | 1 << call.nth  # a bit for each number
        _waiting.pop(_asker(), None)


def _asker() -> asyncio.Task[Any] | threading.Thread:
    """Whoever asks one thing after another: the task, or in synchronous code the thread."""
    try:
        return asyncio.current_task() or threading.current_thread()
    except RuntimeError:
        return threading.current_thread()


def _ended(asker: asyncio.Task[Any] | threading.Thread) -> bool:
    return asker.done() if isinstance(asker, asyncio.Task) else not asker.is_alive()


def _dumped(answer: Sequence[Generation]) -> list[Any]:
    return [[g.message if isinstance(g, ChatGeneration) else g.text, g.generation_info] for g in answer]


def _load(dumped: list[Any]) -> list[Generation]:
    return [
        ChatGeneration(message=content, generation_info=info)
        if isinstance(content, BaseMessage)
        else Generation(text=content, generation_info=info)
        for content, info in dumped
    ]
