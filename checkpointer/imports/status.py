"""How a thread's last run ended, told from its latest checkpoint without its graph. Pure.

LangGraph does not store it. A question or an error of a task without a result is among the pending writes. Else the
thread is finished if no task is due: tasks are triggered by channels, those of edges have known names and have a value
only until the super-step that they trigger, those of edges from several nodes together have the names of those that
have ended, and what has triggered a task before has been seen by it in the version that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.types import ERROR

from superstep.checkpointer.imports.rows import version_text
from superstep.checkpointer.langgraph.keys import BRANCH, INTERRUPT, JOIN, SENDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["Task", "is_due", "status_of"]

_START = "__start__"


class Task:
    """What a task has written so far.

    Attributes:
        has_result: it has ended.
        special: its writes to special channels, serialized.
    """

    def __init__(self) -> None:
        self.has_result = False
        self.special: dict[str, tuple[str, bytes]] = {}

    def note(self, idx: int, channel: str, value: tuple[str, bytes]) -> None:
        """Take a write into account."""
        if idx < 0:
            self.special[channel] = value
        else:
            self.has_result = True


def status_of(
    body: Mapping[str, Any], stored: Collection[str], joins: Mapping[str, Any], tasks: Iterable[Task]
) -> tuple[str, tuple[str, bytes] | None]:
    """The status of a thread, and the error of a task if that is what it ended with.

    Args:
        body: its latest checkpoint, with the small values.
        stored: channels of that whose values are stored beside it.
        joins: the values of those that wait for several nodes.
        tasks: what the tasks after it have written.
    """
    ended = [task.special for task in tasks if not task.has_result]
    if any(INTERRUPT in special for special in ended):
        return "interrupted", None
    for special in ended:
        if ERROR in special:
            return "failed", special[ERROR]
    return ("unfinished" if is_due(body, stored, joins) else "completed"), None


def is_due(body: Mapping[str, Any], stored: Collection[str], joins: Mapping[str, Any]) -> bool:
    """Whether a task is due after a checkpoint, as far as its channels say so."""
    filled = {*(body.get("channel_values") or {}), *stored}
    if any(name in (_START, SENDS) or name.startswith(BRANCH) for name in filled):
        return True
    if any(_is_full(name, ended) for name, ended in joins.items()):
        return True
    versions = body.get("channel_versions") or {}
    return any(
        name in filled and not name.startswith(JOIN) and version_text(versions.get(name, "")) > version_text(version)
        for node, seen in (body.get("versions_seen") or {}).items()
        if not node.startswith("__")
        for name, version in seen.items()
    )


def _is_full(name: str, ended: Any) -> bool:
    """Whether all nodes that a channel waits for have ended: its name is `join:one+other:next`."""
    awaited = name[len(JOIN) :].rpartition(":")[0].split("+")
    return isinstance(ended, set | frozenset | list | tuple) and set(ended) >= set(awaited)
