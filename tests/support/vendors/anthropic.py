"""Anthropic's wire: messages, their streams, errors. See docs.anthropic.com/en/api/messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.vendors.acts import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.vendors.acts import Act, Said
    from tests.support.vendors.request import Request

__all__ = ["body", "error", "error_event", "events"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def body(act: Act, request: Request) -> dict[str, Any]:
    """The answer in one piece."""
    said = act.said(request)
    blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    blocks += [
        {"type": "tool_use", "id": f"toolu_{at}", "name": each.name, "input": dict(each.args)}
        for at, each in enumerate(said.calls)
    ]
    asked, answered = act.usage or (0, 0)
    return _envelope(request) | {
        "content": [] if act.empty else blocks,
        "stop_reason": _stop(act, said),
        "usage": {"input_tokens": asked, "output_tokens": answered},
    }


def events(act: Act, request: Request) -> Iterator[tuple[bool, bytes]]:
    """The answer as server-sent events, and of each whether it carries a token."""
    said = act.said(request)
    asked, answered = act.usage or (0, 0)
    usage = {"input_tokens": asked, "output_tokens": 1 if answered else 0}
    yield False, _event("message_start", message=_envelope(request) | {"content": [], "usage": usage})
    for at, (block, deltas) in enumerate([] if act.empty else _blocks(said)):
        yield False, _event("content_block_start", index=at, content_block=block)
        for delta in deltas:
            yield True, _event("content_block_delta", index=at, delta=delta)
        yield False, _event("content_block_stop", index=at)
    delta = {"stop_reason": _stop(act, said), "stop_sequence": None}
    yield False, _event("message_delta", delta=delta, usage={"input_tokens": asked, "output_tokens": answered})
    yield False, _event("message_stop")


def error(act: Act, message: str) -> dict[str, Any]:
    """The body of an error."""
    kind = act.code or _TYPES.get(act.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def error_event(act: Act, message: str) -> bytes:
    """An error in the middle of a stream."""
    return _event("error", error={"type": act.code or "overloaded_error", "message": message})


def _blocks(said: Said) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if said.text:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in said.words]
    for at, each in enumerate(said.calls):
        block = {"type": "tool_use", "id": f"toolu_{at}", "name": each.name, "input": {}}
        yield block, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(each.args)]


def _envelope(request: Request) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.body["model"],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _stop(act: Act, said: Said) -> str:
    if act.finish == "stop":
        return "tool_use" if said.calls else "end_turn"
    return {"length": "max_tokens", "refused": "refusal"}[act.finish]
