"""When two requests to a model are the same, and which of several identical ones this is."""

from __future__ import annotations

import asyncio
import json
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from superstep.runtime.formats import NOT_ASKED

if TYPE_CHECKING:
    from superstep.checkpointer.step.task import Attempt

__all__ = ["answered", "number", "request_digest"]

# Who waits for an answer, to which request of which execution (its mark), and under which number.
_waiting: WeakKeyDictionary[asyncio.Task[Any] | threading.Thread, tuple[str, bytes, int]] = WeakKeyDictionary()
_numbering = threading.Lock()


def request_digest(prompt: str, llm_string: str) -> bytes:
    """16 bytes over what is asked, and of which model with which parameters, as LangChain dumps them."""
    asked, of_whom = (text.encode(errors="surrogatepass") for text in (_canonical(prompt), llm_string))
    return blake2b(asked + b"\0" + of_whom, digest_size=16).digest()


def _canonical(prompt: str) -> str:
    """LangChain's dump of messages, without what no answer depends on.

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
        for name in NOT_ASKED:
            fields.pop(name, None)
    return json.dumps(messages)


def number(attempt: Attempt, request: bytes) -> int:
    """The lowest number without an answer in this execution, and for which no other code of it waits.

    A cache is not told that a call failed or was cancelled. But code that asks the next thing, or has ended, waits no
    longer, and a request that is made again has the number of the one that failed.
    """
    asker = _asker()
    with _numbering:
        taken = attempt.answered.get(request, 0)
        _waiting.pop(asker, None)
        for other, (mark, awaited, nth) in _waiting.items():
            if (mark, awaited) == (attempt.mark, request) and not _ended(other):
                taken |= 1 << nth
        nth = (~taken & (taken + 1)).bit_length() - 1  # the lowest bit that is 0
        _waiting[asker] = attempt.mark, request, nth
    return nth


def answered(attempt: Attempt, request: bytes, nth: int) -> None:
    """This request of the execution has its answer, durably."""
    with _numbering:
        attempt.answered[request] = attempt.answered.get(request, 0) | 1 << nth  # a bit for each number
        _waiting.pop(_asker(), None)


def _asker() -> asyncio.Task[Any] | threading.Thread:
    """What asks one thing after another: the task, or in synchronous code the thread."""
    try:
        return asyncio.current_task() or threading.current_thread()
    except RuntimeError:
        return threading.current_thread()


def _ended(asker: asyncio.Task[Any] | threading.Thread) -> bool:
    return asker.done() if isinstance(asker, asyncio.Task) else not asker.is_alive()
