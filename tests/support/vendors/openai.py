"""OpenAI's wire: chat completions, their streams, embeddings, errors. See platform.openai.com/docs/api-reference."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.support.vendors.acts import pieces
from tests.support.vendors.request import vector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.vendors.acts import Act, Call, Said
    from tests.support.vendors.request import Request

__all__ = ["body", "embeddings", "error", "error_event", "events"]

_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 403: "insufficient_permissions"}
_TYPES |= {404: "invalid_request_error", 429: "rate_limit_exceeded"}


def body(act: Act, request: Request) -> dict[str, Any]:
    """The answer in one piece."""
    said = act.said(request)
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": act.refusal}
    if said.calls:
        message["tool_calls"] = [_call(at, each) for at, each in enumerate(said.calls)]
    choice = {"index": 0, "finish_reason": _finish(act, said), "message": message, "logprobs": None}
    reply = _envelope("chat.completion", request) | {"choices": [] if act.empty else [choice]}
    return reply if act.usage is None else reply | {"usage": _usage(act)}


def events(act: Act, request: Request) -> Iterator[tuple[bool, bytes]]:
    """The answer as server-sent events, and of each whether it carries a token."""
    said = act.said(request)
    if not act.empty:
        yield False, _chunk(request, {"role": "assistant", "content": ""})
        for at, word in enumerate(said.words, 1):
            yield True, _chunk(request, {"content": word}, usage=_running(act, at))
        if act.refusal is not None:
            yield True, _chunk(request, {"refusal": act.refusal})
        for at, each in enumerate(said.calls):
            yield False, _chunk(request, {"tool_calls": [{"index": at, **_call(at, each, arguments="")}]})
            for piece in pieces(each.args):
                yield True, _chunk(request, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        yield False, _chunk(request, {}, finish=_finish(act, said))
    if act.usage is not None and (request.body.get("stream_options") or {}).get("include_usage"):
        closing = _envelope("chat.completion.chunk", request) | {"choices": [], "usage": _usage(act)}
        yield False, _event(closing)
    yield False, b"data: [DONE]\n\n"


def error(act: Act, message: str) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(act.status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": act.code}}


def error_event(act: Act, message: str) -> bytes:
    """An error in the middle of a stream."""
    return _event({"error": {"message": message, "type": "server_error", "param": None, "code": act.code}})


def embeddings(act: Act, request: Request) -> dict[str, Any]:
    """Vectors for the texts, in the encoding that was asked for."""
    found = [vector(text, act.dimensions) for text in request.texts]
    if act.count is not None:
        found = (found * (act.count + 1))[: act.count]
    data = [{"object": "embedding", "index": at, "embedding": _encoded(each, request)} for at, each in enumerate(found)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    ordered = data[::-1] if act.shuffled else data
    return {"object": "list", "data": ordered, "model": request.body["model"], "usage": usage}


def _encoded(values: list[float], request: Request) -> list[float] | str:
    if request.body.get("encoding_format") != "base64":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _envelope(kind: str, request: Request) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request.body["model"]}


def _chunk(request: Request, delta: dict[str, Any], *, finish: str | None = None, usage: Any = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return _event(_envelope("chat.completion.chunk", request) | {"choices": [choice], "usage": usage})


def _running(act: Act, words: int) -> Any:
    """What a stream says of its tokens after so many words, if it does."""
    return _usage(replace(act, usage=((act.usage or (0, 0))[0], words))) if act.running else None


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _call(at: int, call: Call, *, arguments: str | None = None) -> dict[str, Any]:
    written = json.dumps(call.args) if arguments is None else arguments
    return {"id": f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": written}}


def _finish(act: Act, said: Said) -> str:
    if act.finish == "refused":
        return "stop" if act.refusal is not None else "content_filter"
    return "tool_calls" if said.calls and act.finish == "stop" else act.finish


def _usage(act: Act) -> Any:
    if act.counted is not None:
        return act.counted
    asked, answered = act.usage or (0, 0)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
