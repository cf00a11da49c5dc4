"""What a vendor does with one request: an answer, a refusal, an error, and how the connection behaves meanwhile."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from tests.support.vendors.request import Request

__all__ = ["Act", "Call", "Said", "answer", "call", "empty", "hang_up", "raw", "refused", "status", "vectors"]

Fault = Literal["cut", "end", "stall", "garble", "error", "hang up", "linger", "drop"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says in the form its request asked for, in the pieces that a stream sends."""

    text: str
    calls: tuple[Call, ...]

    @property
    def words(self) -> list[str]:
        """The text in pieces that add up to it."""
        return re.findall(r"\S+\s*|\s+", self.text)


def pieces(args: Mapping[str, Any]) -> list[str]:
    """Arguments of a call, as JSON in pieces that add up to it."""
    text = json.dumps(args)
    return [text[at : at + 12] for at in range(0, len(text), 12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One scripted reaction. Made by the functions of this module and refined by its methods.

    Attributes:
        text: what is said.
        value: a structured value, sent in the way that the request asks for: as a tool call or as JSON text.
        calls: tools that are called.
        finish: "stop", "length" or "refused", translated for each vendor; tool calls have their own.
        refusal: OpenAI's separate text of a refusal.
        usage: tokens in and out; `None` for a server that reports none.
        counted: what takes the place of `usage` on OpenAI's wire, whatever it is.
        running: a stream says its tokens until then with every chunk.
        empty: no choices at all.
        status: HTTP status.
        code: the vendor's code or type of an error.
        message: text of an error; `{key}` is replaced by the key that came with the request.
        headers: further headers.
        raw: a body that replaces everything.
        content_type: of a raw body.
        first_byte: seconds before anything is sent.
        first_token: seconds between a stream's headers and its first token.
        token: seconds before each further token.
        fault: what goes wrong after `after` tokens (of a body that is not streamed: half way).
        until: what a stall waits for.
        without: closing events of a stream that are not sent.
        dimensions: length of embeddings.
        count: how many embeddings are sent, if not one for each text.
        shuffled: embeddings are sent in reverse order, with the right `index`.
    """

    text: str = ""
    value: Mapping[str, Any] | None = None
    calls: tuple[Call, ...] = ()
    finish: Literal["stop", "length", "refused"] = "stop"
    refusal: str | None = None
    usage: tuple[int, int] | None = (7, 3)
    counted: Any = None
    running: bool = False
    empty: bool = False
    status: int = 200
    code: str | None = None
    message: str = "scripted"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = "application/json"
    first_byte: float = 0.0
    first_token: float = 0.0
    token: float = 0.0
    fault: Fault | None = None
    after: int = 0
    until: threading.Event | None = None
    without: int = 0
    dimensions: int = 8
    count: int | None = None
    shuffled: bool = False

    def said(self, request: Request) -> Said:
        """What it says to this request."""
        if self.value is None:
            return Said(self.text, self.calls)
        if request.schema_tool is not None:
            return Said(self.text, (*self.calls, Call(request.schema_tool, self.value)))
        return Said(self.text + json.dumps(self.value), self.calls)

    def slow(self, *, first_byte: float = 0.0, first_token: float = 0.0, token: float = 0.0) -> Act:
        """Take that many seconds."""
        return replace(self, first_byte=first_byte, first_token=first_token, token=token)

    def stall(self, *, after: int = 0, until: threading.Event | None = None) -> Act:
        """After so many tokens wait for the event, or for ever, then go on. The request's `state` is "stalled"."""
        return replace(self, fault="stall", after=after, until=until)

    def cut(self, *, after: int = 0) -> Act:
        """After so many tokens drop the connection in the middle of the body."""
        return replace(self, fault="cut", after=after)

    def end(self, *, after: int = 0) -> Act:
        """After so many tokens end the body properly, without finish reason and without `[DONE]`."""
        return replace(self, fault="end", after=after)

    def linger(self, *, without: int = 0) -> Act:
        """Say all of a stream, but for so many closing events, and leave the connection open for ever."""
        return replace(self, fault="linger", without=without)

    def drop(self, *, without: int = 0) -> Act:
        """Say all of a stream, but for so many closing events, and drop the connection without ending the body."""
        return replace(self, fault="drop", without=without)

    def garble(self, *, after: int = 0) -> Act:
        """After so many tokens send an event that is not JSON, and end."""
        return replace(self, fault="garble", after=after)

    def fail(self, *, after: int = 0, code: str = "overloaded_error") -> Act:
        """After so many tokens send the vendor's error event, and end."""
        return replace(self, fault="error", after=after, code=code)


def answer(said: str | Mapping[str, Any] = "pong", *, usage: tuple[int, int] | None = (7, 3), **more: Any) -> Act:
    """Say a text, or a value in the structure that the request asks for."""
    if isinstance(said, str):
        return Act(text=said, usage=usage, **more)
    return Act(value=said, usage=usage, **more)


def call(name: str, args: Mapping[str, Any] | None = None, *, text: str = "", **more: Any) -> Act:
    """Call a tool. More than one: `Act(calls=(Call(...), Call(...)))`."""
    return Act(text=text, calls=(Call(name, args or {}),), **more)


def refused(text: str = "", *, refusal: str | None = None) -> Act:
    """Refuse the content: finish reason `content_filter` (OpenAI), stop reason `refusal` (Anthropic).

    With `refusal`, OpenAI's wire has that text in the message's `refusal` and the finish reason `stop`.
    """
    return Act(text=text, finish="refused", refusal=refusal)


def empty() -> Act:
    """Answer with status 200 and nothing in it: `choices: []`, `content: []`."""
    return Act(empty=True)


def status(
    number: int,
    *,
    retry_after: float | str | None = None,
    code: str | None = None,
    message: str = "scripted",
    headers: Mapping[str, str] | None = None,
) -> Act:
    """Answer with an error. `code` is OpenAI's `error.code`, or Anthropic's `error.type`."""
    more = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Act(status=number, code=code, message=message, headers={**(headers or {}), **more})


def raw(body: bytes = b'{"id": "c-1", "choi', *, number: int = 200, content_type: str = "application/json") -> Act:
    """Answer with this body, whatever was asked; by default a truncated JSON document of the announced length."""
    return Act(status=number, raw=body, content_type=content_type)


def hang_up() -> Act:
    """Drop the connection without a byte."""
    return Act(fault="hang up")


def vectors(dimensions: int = 8, *, count: int | None = None, shuffled: bool = False) -> Act:
    """Embed: see `request.vector`. `count` for a wrong number of them."""
    return Act(dimensions=dimensions, count=count, shuffled=shuffled)
