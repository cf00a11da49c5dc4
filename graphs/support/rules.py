"""What the model answers in this flow when no vendor serves it. Pure functions of the request's content."""

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from superstep import OfflineReply, ToolCall

if TYPE_CHECKING:
    from superstep import OfflineRequest

__all__ = ["answer"]

ORDER = re.compile(r"\bO-\d+\b")
ADDRESS = re.compile(r"address (?:is|to)(?: now)?:? ([^.;!?\n]+)", re.IGNORECASE)
PREFERENCE = re.compile(r"\bI prefer ([^.;!?\n]+)", re.IGNORECASE)


def answer(request: OfflineRequest) -> OfflineReply | None:
    """Call tools by what the message asks for, say what they have answered, or quote a help article."""
    if not any(each["name"] == "refund_order" for each in request.tools):
        return None
    answered = [each.text for each in takewhile(lambda each: each.type == "tool", reversed(request.messages))]
    if answered:
        return OfflineReply(text="[offline] " + " ".join(reversed(answered)))
    calls = list(_calls(request.text))
    return OfflineReply(tool_calls=calls) if calls else OfflineReply(text=_from_articles(request.messages[0].text))


def _calls(message: str) -> list[ToolCall]:
    said, calls = message.lower(), []
    if "refund" in said and (orders := ORDER.findall(message)):
        calls += [ToolCall("refund_order", {"order_id": each, "reason": message}) for each in orders]
    elif "order" in said:
        calls.append(ToolCall("look_up_orders"))
    if found := ADDRESS.search(message):
        calls.append(ToolCall("change_address", {"address": found[1].strip()}))
    if found := PREFERENCE.search(message):
        calls.append(ToolCall("remember", {"preference": f"prefers {found[1].strip()}"}))
    return calls


def _from_articles(instructions: str) -> str:
    known: dict[str, Any] = json.loads(instructions[instructions.index("{") :])
    remembered = f" I remember: {'; '.join(known['remembered'])}." if known["remembered"] else ""
    return f"[offline] {known['articles'][0]['content']}{remembered}"
