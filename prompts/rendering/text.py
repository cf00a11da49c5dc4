"""A version as text for people, so that two of them can be compared line by line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from superstep.prompts.model.content import REQUIRED
from superstep.prompts.model.values import as_json

if TYPE_CHECKING:
    from superstep.prompts.model.content import Content, Variable

__all__ = ["differences", "readable"]


def readable(content: Content) -> str:
    """All of a version that a model can notice."""
    parts = []
    if content.route:
        parts.append(f"route: {content.route}")
    if content.parameters:
        parts.append(f"parameters: {as_json(content.parameters)}")
    if content.variables:
        declared = (_declared(name, content.variables[name]) for name in sorted(content.variables))
        parts.append("variables:\n" + "\n".join(declared))
    for message in content.messages:
        if message.role == "examples":
            for at, each in enumerate(content.examples, start=1):
                parts.append(f"--- example {at}, user\n{each.input}")
                parts.append(f"--- example {at}, assistant\n{each.output}")
        else:
            parts.append(f"--- {message.role}{f' {message.name}' if message.name else ''}\n{message.content}".rstrip())
    parts.extend(f"--- included as {name!r}\n{content.includes[name]}" for name in sorted(content.includes))
    return "\n\n".join(parts) + "\n"


def _declared(name: str, variable: Variable) -> str:
    default = "" if variable.default is REQUIRED else f" = {as_json(variable.default)}"
    note = f"  ({variable.description})" if variable.description else ""
    return f"  {name}: {variable.declared}{default}{note}"


def differences(before: Content, after: Content, titles: tuple[str, str]) -> list[str]:
    """A unified diff of two versions, line by line; nothing if they say the same."""
    old, new = readable(before).splitlines(), readable(after).splitlines()
    return list(difflib.unified_diff(old, new, *titles, lineterm=""))
