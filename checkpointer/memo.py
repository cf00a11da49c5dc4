"""Answers of language models, remembered inside a super-step: an LLM call is paid once.

`StepMemo` is LangChain's own kind of cache, so any `BaseChatModel` used in a node goes through it. Its key is the place
in the run plus the request; the answer is durable before the node sees it, and is served again when the node runs again
after a conflict, a crash or an answered interrupt. Inside one execution of a node the n-th identical request has its
own answer, so asking a model several times for the same thing still samples several answers. A retry by LangGraph's
`RetryPolicy` has another attempt number and samples anew.

Not covered: a node that iterates `model.astream()` itself (LangChain consults no cache there; `ainvoke` under
`stream_mode="messages"` is covered), and models built with `cache=False`.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation

from checkpointer import failpoints
from checkpointer.codec import dump
from checkpointer.step import locate
from runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpointer.run import Run
    from checkpointer.superstep import SuperStep

__all__ = ["StepMemo", "install"]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request at its place. `key` are the first seven columns of an `llm_call` row."""

    run: Run
    step: SuperStep
    key: tuple[str, str, str, str, int, bytes, int]


# LangChain looks a request up and stores its answer in one coroutine, so the call travels in the context.
_call: ContextVar[_Call | None] = ContextVar("superstep_llm_call", default=None)


class StepMemo(BaseCache):
    """The memo; outside of super-steps, and for first answers inside, the cache that was set before it."""

    def __init__(self, outer: BaseCache | None = None) -> None:
        self.outer = outer

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        """The answer this execution, or an earlier one at the same place, got for its n-th such request."""
        call = _place(prompt, llm_string)
        _call.set(call)
        if call is None:
            return await self.outer.alookup(prompt, llm_string) if self.outer else None
        return await call.run.engine.on_loop(self._find(call, prompt, llm_string))

    async def _find(self, call: _Call, prompt: str, llm_string: str) -> Any:
        engine = call.run.engine
        # The key has the checkpoint that the super-step starts from, and a crash before that is committed gives the
        # step another one, under which a paid answer would not be found.
        await call.run.committed(call.step.ns, call.step.checkpoint_id)
        row = await engine.autocommit(lambda conn: conn.fetchrow(engine.sql["memo_get"], *call.key, call.run.token))
        if row is None or not row["owned"]:
            raise call.run.stale()
        if row["kind"] is not None:
            call.step.costs.llm_reused += 1
            return _load(call.run.serde.loads_typed((row["kind"], row["answer"])))
        return await self.outer.alookup(prompt, llm_string) if self.outer else None

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store a paid answer durably before the node gets it."""
        if self.outer:
            await self.outer.aupdate(prompt, llm_string, return_val)
        if (call := _call.get()) is not None:
            _call.set(None)
            await call.run.engine.on_loop(self._store(call, return_val))

    async def _store(self, call: _Call, answer: Sequence[Generation]) -> None:
        await failpoints.hit("memo.before_store")
        kind, data = dump(call.run.serde, _dumped(answer), "the answer of a language model")
        model, tokens_in, tokens_out = _usage(answer)
        engine = call.run.engine
        row = (*call.key, model, tokens_in, tokens_out, kind, data, call.run.token)
        if not await engine.autocommit(lambda conn: conn.fetchval(engine.sql["memo_put"], *row)):
            raise call.run.stale()
        await failpoints.hit("memo.stored")

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """`alookup` for synchronous model calls; blocks the calling thread."""
        call = _place(prompt, llm_string)
        _call.set(call)
        if call is None:
            return self.outer.lookup(prompt, llm_string) if self.outer else None
        return call.run.engine.from_thread(self._find(call, prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """`aupdate` for synchronous model calls; blocks the calling thread."""
        if self.outer:
            self.outer.update(prompt, llm_string, return_val)
        if (call := _call.get()) is not None:
            _call.set(None)
            call.run.engine.from_thread(self._store(call, return_val))

    def clear(self, **kwargs: Any) -> None:
        """Clear the outer cache. The memo belongs to its threads and goes with them."""
        if self.outer:
            self.outer.clear(**kwargs)


def install() -> None:
    """Make the memo LangChain's global cache, in front of the one that was set before. Safe to call repeatedly."""
    cache = get_llm_cache()
    if not isinstance(cache, StepMemo):
        set_llm_cache(StepMemo(cache))


def _place(prompt: str, llm_string: str) -> _Call | None:
    try:
        place = locate()
    except NoActiveStep:
        return None
    request = blake2b(prompt.encode() + b"\0" + llm_string.encode(), digest_size=16).digest()
    step, attempt = place.enter()
    nth = attempt.asked_llm[request] = attempt.asked_llm.get(request, -1) + 1
    key = (place.run.thread_id, place.ns, place.checkpoint_id, place.task_id, place.number, request, nth)
    return _Call(place.run, step, key)


def _dumped(answer: Sequence[Generation]) -> list[Any]:
    return [[g.message if isinstance(g, ChatGeneration) else g.text, g.generation_info] for g in answer]


def _load(dumped: list[Any]) -> list[Generation]:
    return [
        ChatGeneration(message=content, generation_info=info)
        if isinstance(content, BaseMessage)
        else Generation(text=content, generation_info=info)
        for content, info in dumped
    ]


def _usage(answer: Sequence[Generation]) -> tuple[str | None, int, int]:
    model: str | None = None
    tokens_in = tokens_out = 0
    for generation in answer:
        message = getattr(generation, "message", None)
        if isinstance(message, AIMessage):
            model = model or message.response_metadata.get("model_name") or message.response_metadata.get("model")
            if usage := message.usage_metadata:
                tokens_in += usage["input_tokens"]
                tokens_out += usage["output_tokens"]
    return model, tokens_in, tokens_out
