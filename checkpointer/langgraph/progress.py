"""Which nodes ran between two checkpoints, read off LangGraph's own bookkeeping. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langgraph.types import Send

from superstep.checkpointer.langgraph.keys import SENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata

__all__ = ["NO_PROGRESS", "Progress", "nodes_between", "progress", "takes_results"]


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


def takes_results(checkpoint_id: str, metadata: CheckpointMetadata) -> bool:
    """Whether an update ended its super-step by hand (`update_state(None, as_node=END)`), taking saved results along.

    LangGraph numbers ids by the super-step they are made in (the clock sequence of a UUID of version 6, 14 bits). Such
    an update is made in the super-step that it ends, any other one in the next.
    """
    try:
        number = UUID(checkpoint_id).clock_seq
    except ValueError:
        return False
    return metadata.get("source") == "update" and number == (metadata.get("step", 0) - 1) & 0x3FFF
