"""What models and prompts a super-step used, in a few words for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["used_lines"]


def used_lines(step: Mapping[str, Any]) -> list[str]:
    """Return one line for each call of a model, oldest first, equal ones together, and one for the prompts."""
    lines = _counted(_call(call) for call in step["calls"])
    return [*lines, f"prompts: {', '.join(step['prompts'])}"] if step["prompts"] else lines


def _call(call: Mapping[str, Any]) -> str:
    left = ", ".join(_counted(f"{each.get('deployment')} ({each.get('why')})" for each in call.get("tried") or ()))
    if call["outcome"] == "failed":
        route = call.get("route") or call["model"] or "a model"
        return f"{call['node']}: {route} failed: {left or call.get('error') or 'no reason recorded'}"
    answered = f"{call['node']}: {call.get('deployment') or call['model'] or 'a model'} answered"
    return answered + (f" after {left}" if left else "") + (f" · ${call['usd']:.4f}" if call["usd"] else "")


def _counted(texts: Iterable[str]) -> list[str]:
    return [text if times == 1 else f"{text} x{times}" for text, times in Counter(texts).items()]
