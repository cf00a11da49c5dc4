"""Where a stored checkpoint stands, and what of that a graph has a place for. Pure.

LangGraph forgets without a word what a graph does not know: a task of a node that is gone is not run, a write to a
channel that is gone is not applied, and a value of one is not there for the next checkpoint. So before a graph of
another structure goes on, what the checkpoint needs is looked for in it:

- the nodes that come next: by the channels of edges that hold something, and by what was sent;
- the edges of several nodes that some of them have come by already;
- the channels of the state that hold a value;
- of tasks that have finished, or have asked a human, where their saved results go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import Send

from superstep.checkpointer.langgraph.keys import BRANCH, JOIN, SENDS, is_private_channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
    from langgraph.pregel import Pregel

__all__ = ["ROOT", "START", "TO_NODE", "is_control", "is_parked", "missing_in"]

START = "__start__"  # of the graph's input, until its first super-step has taken it
ROOT = "__root__"  # of a state that is one value
TO_NODE = f"{BRANCH}to:"


def is_control(channel: str) -> bool:
    """Whether a channel says where a graph stands, and nothing of its state."""
    return channel.startswith((BRANCH, JOIN)) or channel in (SENDS, START)


def is_parked(checkpoint: Checkpoint, graph: Pregel[Any, Any, Any, Any] | None = None) -> bool:
    """Whether a checkpoint stands before anything, by its channels; by the triggers of a graph too, if one is given."""
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
    if any(_leads_on(channel, value) for channel, value in values.items()):
        return True
    seen = checkpoint["versions_seen"]
    return graph is not None and any(
        trigger in values and str(versions.get(trigger, "")) > str(seen.get(name, {}).get(trigger, ""))
        for name, node in graph.nodes.items()
        for trigger in node.triggers
        if not is_control(trigger)
    )


def missing_in(graph: Pregel[Any, Any, Any, Any], found: CheckpointTuple) -> list[str]:
    """What a checkpoint needs that the graph does not have, in words; nothing if the graph can go on from it."""
    values = found.checkpoint["channel_values"]
    held = [channel for channel, value in values.items() if _holds(channel, value)]
    sent = list(_nodes_sent_to(values.get(SENDS) or ()))
    for _, channel, value in found.pending_writes or ():
        if channel == SENDS:
            sent += _nodes_sent_to([value])
        elif not channel.startswith("__"):
            held.append(channel)
    missing = [f"node {name!r}, which comes next" for name in sent if name not in graph.nodes]
    missing += [_in_words(channel) for channel in held if not _has_place(graph, channel)]
    return sorted(set(missing))


def _has_place(graph: Pregel[Any, Any, Any, Any], channel: str) -> bool:
    if is_control(channel) and channel != SENDS:
        return bool(graph.trigger_to_nodes.get(channel))
    return channel in graph.channels


def _in_words(channel: str) -> str:
    if channel.startswith(TO_NODE):
        return f"node {channel.removeprefix(TO_NODE)!r}, which comes next"
    if channel.startswith(JOIN):
        *_, starts, end = channel.split(":", 2)
        return f"the edge from {starts.replace('+', ' and ')} to {end!r}, which part of them have come by"
    return f"channel {channel!r}, which holds a value"


def _holds(channel: str, value: Any) -> bool:
    """Whether a value of a channel is one that must not get lost."""
    if channel.startswith(JOIN):
        return bool(_come_by(value))
    if channel == SENDS:
        return bool(value)
    return is_control(channel) or channel == ROOT or not is_private_channel(channel)


def _leads_on(channel: str, value: Any) -> bool:
    if channel.startswith(JOIN):
        come, starts = _come_by(value), channel.split(":", 2)[1].split("+")
        return come >= set(starts)
    return is_control(channel) and _holds(channel, value)


def _come_by(value: Any) -> set[Any]:
    """Of an edge of several nodes, those that have come by: the value is a set, or begins with one."""
    come = value[0] if isinstance(value, list | tuple) and len(value) == 2 else value
    return set(come or ())


def _nodes_sent_to(sends: Iterable[Any]) -> Iterator[str]:
    return (each.node for each in sends if isinstance(each, Send))
