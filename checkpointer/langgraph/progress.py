"""Which nodes ran between two checkpoints, read off LangGraph's own bookkeeping. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.types import Send

from superstep.checkpointer.langgraph.keys import SENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.base import Checkpoint

__all__ = ["NO_PROGRESS", "Progress", "nodes_between", "progress"]


class Progress(NamedTuple):
    """What a checkpoint says about its nodes: the channel versions each has seen, and the `Send`s that wait."""

    seen: Mapping[str, Mapping[str, Any]]
    sends: tuple[str, ...]


NO_PROGRESS = Progress({}, ())


def progress(checkpoint: Checkpoint) -> Progress:
    """Read it off a checkpoint that does not change any more."""
    waiting = checkpoint["channel_values"].get(SENDS) or ()
    return Progress(checkpoint["versions_seen"], tuple(s.node for s in waiting if isinstance(s, Send)))


def nodes_between(before: Progress, after: Progress) -> set[str]:
    """Nodes that saw something new, and nodes that were sent to. Calls of `@task` functions leave no trace here."""
    pulled = {name for name, seen in after.seen.items() if seen != before.seen.get(name)}
    return {name for name in pulled | set(before.sends) if not name.startswith("__")}
