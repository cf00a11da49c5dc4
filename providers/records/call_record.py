"""What is kept of every call of a model, in the words of the database column and of `runtime history --json`.

The record of a call that was answered travels in the answer itself, as `response_metadata["routing"]`, so that it is
stored wherever the answer is. The record of a call without an answer is handed to the process's recorder.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from superstep.runtime.formats import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_core.messages import BaseMessage

__all__ = ["CallRecord", "Tried", "counted", "left", "record_of"]


class Tried(TypedDict):
    """One deployment that did not give the answer, and why it was left.

    Attributes:
        deployment: name of the deployment, unique in the catalog.
        why: in words: "status 503", "circuit open", "rate limit", "no first token in 2 s", …
        status: the HTTP status, if there was one.
        ms: milliseconds spent on it, 0 if it was not asked.
        counts: whether it was asked, and failed in a way that speaks against its health.
        usd: what it may have cost all the same; only of attempts that are paid for, and part of the call's `usd`.
    """

    deployment: str
    why: str
    status: int | None
    ms: float
    counts: bool
    usd: NotRequired[float | None]


def left(deployment: str, why: str, *, status: int | None = None, seconds: float = 0.0, counts: bool = False) -> Tried:
    """The entry of a deployment that was left."""
    ms = round(seconds * 1000, 3)
    return {"deployment": deployment, "why": why, "status": status, "ms": ms, "counts": counts}


def counted(words: Iterable[str]) -> str:
    """The words for an error message, equal ones once: "status 503, 3 times, timed out"."""
    times = Counter(words)
    return ", ".join(word if times[word] == 1 else f"{word}, {times[word]} times" for word in times)


class CallRecord(TypedDict, total=False):
    """One call of a route.

    Attributes:
        route: the route asked for.
        outcome: "answered", "failed", or "abandoned" by its caller.
        deployment: name of the deployment that answered.
        provider: the kind of service that it is.
        model: the one that the provider names in its answer, else the configured one.
        tried: those left before, in order.
        ms: milliseconds from the request to the last token, waiting and failed attempts included.
        first_token_ms: milliseconds to the first token, of streams.
        input_tokens: of all attempts that are paid for, as the provider counted them, else an estimate.
        output_tokens: likewise.
        usd: what they cost; `None` where no price is known.
        prompt: `NAME@VERSION` of the prompt that the input was made from.
        request: hexadecimal digest of messages, tools and parameters.
        tags: tags of the call.
        offline: no model was asked.
        hedged: a second deployment was asked because the first was slow.
        error: of a failed call: class and message of what it failed with.
        content: `input` and `output`, only if recording of content is on, and redacted.
    """

    route: str
    outcome: str
    deployment: str | None
    provider: str | None
    model: str | None
    tried: list[Tried]
    ms: float
    first_token_ms: float | None
    input_tokens: int
    output_tokens: int
    usd: float | None
    prompt: str | None
    request: str
    tags: list[str]
    offline: bool
    hedged: bool
    error: str | None
    content: dict[str, Any] | None


def record_of(answer: BaseMessage) -> Mapping[str, Any] | None:
    """The `CallRecord` that an answer of a routed model carries; `None` of any other message."""
    record = answer.response_metadata.get(RECORD_KEY)
    return record if isinstance(record, dict) else None
