"""A parked checkpoint with another state, before other nodes, or before none: what comes after it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langgraph._internal._typing import MISSING
from langgraph.channels.delta import DeltaChannel
from langgraph.channels.last_value import LastValueAfterFinish
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command

from superstep.checkpointer.langgraph.keys import DELTA_COUNTERS, is_private_channel
from superstep.checkpointer.langgraph.standing import ROOT, TO_NODE, is_control
from superstep.checkpointer.langgraph.versions import next_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory
    from langgraph.pregel import Pregel

__all__ = ["cancelled", "delta_channels", "lifted", "rebuilt", "state_in", "what_it_made"]


def state_in(found: CheckpointTuple, rebuilt: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint by its channels, those that are put together from writes included."""
    values = found.checkpoint["channel_values"]
    state = {name: value for name, value in values.items() if name == ROOT or not is_private_channel(name)}
    state = {name: value for name, value in state.items() if not is_control(name)} | dict(rebuilt)
    return {name: value.value if isinstance(value, _DeltaSnapshot) else value for name, value in state.items()}


def delta_channels(found: CheckpointTuple) -> list[str]:
    """Channels of a checkpoint whose values are put together from writes."""
    counters: Mapping[str, Any] = found.metadata.get(DELTA_COUNTERS) or {}
    return [name for name in counters if name not in found.checkpoint["channel_values"]]


def rebuilt(graph: Pregel[Any, Any, Any, Any], channel: str, history: DeltaChannelHistory) -> Any:
    """The value of such a channel, by the reducer that the graph has for it.

    Raises:
        TypeError: the graph has no such channel. The message says so.
    """
    spec = graph.channels.get(channel)
    if not isinstance(spec, DeltaChannel):
        raise TypeError(f"channel {channel!r} is kept as writes, and the graph has no reducer for it any more")
    made = spec.from_checkpoint(history.get("seed", MISSING))
    made.replay_writes(history["writes"])
    return made.get()


def what_it_made(made: Any, graph: Pregel[Any, Any, Any, Any]) -> tuple[dict[str, Any], list[str] | None]:
    """The state that a migration has returned, and the nodes to stand before; `None` for those of before.

    Raises:
        TypeError: it is no state.
        ValueError: it is no state of the graph, or goes to what is no node. The message says what.
    """
    goto: list[str] | None = None
    if isinstance(made, Command):
        goto = [made.goto] if isinstance(made.goto, str) else list(made.goto)  # type: ignore[arg-type]
        goto = goto or None
        made = made.update
    if not isinstance(made, dict):
        raise TypeError(f"it returned a {type(made).__name__}, and not the state as a dict, or a Command with it")
    unknown = [name for name in made if name not in graph.channels or is_control(name)]
    if unknown:
        raise ValueError(f"it returned {', '.join(map(repr, unknown))}, which the graph has no channel for")
    if absent := [each for each in goto or () if f"{TO_NODE}{each}" not in graph.channels]:
        raise ValueError(f"it goes to {', '.join(map(repr, absent))}, which is no node of the graph")
    return made, goto


def lifted(
    found: CheckpointTuple,
    state: Mapping[str, Any],
    goto: Sequence[str] | None,
    graph: Pregel[Any, Any, Any, Any],
    had: str,
) -> tuple[Checkpoint, CheckpointMetadata, dict[str, str | int | float]]:
    """The checkpoint after another, with this state in its place.

    It stands before the same nodes, or before those of `goto`. Whatever a node has seen of a channel it has seen of the
    channel's new version too: a change of the state alone starts nothing.

    Returns:
        The checkpoint, its metadata, and the versions of what is new in it.
    """
    before = found.checkpoint
    values, versions = before["channel_values"], before["channel_versions"]
    new = next_version(max(map(str, versions.values()), default=None))
    kept = {name: value for name, value in values.items() if is_control(name) or _is_langgraphs(name)}
    if goto is not None:
        kept = {name: value for name, value in kept.items() if not is_control(name)}
    stands = {f"{TO_NODE}{node}": _arrival(graph, node) for node in goto or ()}
    changed = {name: _stored(graph, name, value) for name, value in state.items()} | stands
    left = {name: version for name, version in versions.items() if name in kept or _is_langgraphs(name)}
    left |= {name: version for name, version in versions.items() if is_control(name)}
    seen = {
        node: {name: new if name in state and name in versions else version for name, version in each.items()}
        for node, each in before["versions_seen"].items()
    }
    step = int(found.metadata.get("step", -1)) + 1
    checkpoint = Checkpoint(
        v=before["v"],
        id=str(uuid6(clock_seq=step)),
        ts=datetime.now(UTC).isoformat(),
        channel_values=kept | changed,
        channel_versions=left | dict.fromkeys(changed, new),
        versions_seen=seen,
        updated_channels=None,
    )
    metadata: dict[str, Any] = {"source": "update", "step": step, "parents": {}, "lifted_from": had}
    return checkpoint, metadata, dict.fromkeys(changed, new)  # type: ignore[return-value]


def cancelled(found: CheckpointTuple) -> tuple[Checkpoint, CheckpointMetadata]:
    """The checkpoint after another, with its state, before no node: new input begins at the beginning."""
    before, step = found.checkpoint, int(found.metadata.get("step", -1)) + 1
    values = {name: value for name, value in before["channel_values"].items() if not is_control(name)}
    now = datetime.now(UTC).isoformat()
    new = {**before, "id": str(uuid6(clock_seq=step)), "ts": now, "channel_values": values, "updated_channels": None}
    counted = {DELTA_COUNTERS: counters} if (counters := found.metadata.get(DELTA_COUNTERS)) else {}
    metadata: dict[str, Any] = {"source": "update", "step": step, "parents": {}, "cancelled": True, **counted}
    return new, metadata  # type: ignore[return-value]


def _is_langgraphs(channel: str) -> bool:
    return is_private_channel(channel) and channel != ROOT


def _arrival(graph: Pregel[Any, Any, Any, Any], node: str) -> Any:
    """What the channel that starts a node holds when it has been sent to."""
    return (None, True) if isinstance(graph.channels[f"{TO_NODE}{node}"], LastValueAfterFinish) else None


def _stored(graph: Pregel[Any, Any, Any, Any], channel: str, value: Any) -> Any:
    return _DeltaSnapshot(value) if isinstance(graph.channels[channel], DeltaChannel) else value
