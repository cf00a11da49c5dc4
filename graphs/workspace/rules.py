r"""What the models answer in this flow when no vendor serves them. Pure functions of the request's content.

The offline coder understands two sentences, ``Set NAME to VALUE in FILE.`` and ``Replace `OLD` by `NEW` in FILE.``; it
halves a number on which tests failed, and drops the comments that the offline reviewer does not want.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep import OfflineRequest

__all__ = ["answer"]

_SET = re.compile(r"Set (\w+) to (\d+) in (\w+\.py)\.")
_REPLACE = re.compile(r"Replace `(.*)` by `(.*)` in (\w+\.py)\.", re.DOTALL)
_UNWANTED = re.compile(r" *# TODO[^\n]*")


def answer(request: OfflineRequest) -> dict[str, Any] | None:
    """Answer as coder or reviewer; leave anything else to the offline model's default."""
    if request.schema_name == "Verdict":
        unwanted = re.search(r"^\+.*TODO", request.text, re.MULTILINE)
        said = "No TODO in what is merged." if unwanted else "It does what the task says."
        return {"approved": unwanted is None, "comment": f"[offline] {said}"}
    if request.schema_name != "Patch":
        return None
    try:
        work = json.loads(request.text)
    except ValueError:
        return None
    return _patch(work["task"], work["feedback"], work["files"])


def _patch(task: str, feedback: str, files: dict[str, str]) -> dict[str, Any]:
    if found := _SET.fullmatch(task):
        name, value, path = found.groups()
        value = str(int(value) // 2) if "FAILED" in feedback else value
        there = re.search(rf"^{name} = \d+$", files.get(path, ""), re.MULTILINE)
        old, new = there[0] if there else "", f"{name} = {value}"
    elif found := _REPLACE.fullmatch(task):
        old, new, path = found.groups()
    else:
        return {"edits": [], "note": "[offline] This takes a model that understands the task."}
    if "TODO" in feedback:
        new = _UNWANTED.sub("", new)
    if old == new or not old or files.get(path, "").count(old) != 1:
        return {"edits": [], "note": f"[offline] There is nothing to change in {path}."}
    return {"edits": [{"path": path, "old": old, "new": new}], "note": f"[offline] {path}: {new.splitlines()[0]}"}
