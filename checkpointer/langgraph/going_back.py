"""What a guarded node needs of LangGraph: which channels accumulate, and how to leave for another node alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.channels import AnyValue, EphemeralValue, LastValue, LastValueAfterFinish, UntrackedValue
from langgraph.config import get_config

from superstep.checkpointer.langgraph.keys import BRANCH, JOIN, READ, SEND, SENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["accumulating", "go_anywhere", "go_only_to"]

_REPLACED = (LastValue, LastValueAfterFinish, AnyValue, EphemeralValue, UntrackedValue)  # by each write
_TO = f"{BRANCH}to:"


def accumulating(channels: Collection[str]) -> list[str]:
    """Those of these channels whose values are made of all that was ever written to them, in the graph running here.

    LangGraph hands tasks a way to read the state, which has the graph's channels.
    """
    read: Any = get_config().get("configurable", {}).get(READ)
    kinds: dict[str, Any] = next((each for each in getattr(read, "args", ()) if isinstance(each, dict)), {})
    return [name for name in channels if not isinstance(kinds.get(name), _REPLACED)]


def go_only_to(node: str) -> None:
    """Let the task that runs here go to one node, whatever edges lead away from its own.

    LangGraph follows a node's edges beside a `Command` that the node returns. What the task writes goes through a
    function in its config, which it shares with those who write for the edges: from here on that leaves out whatever
    leads elsewhere.
    """
    conf: dict[str, Any] = get_config()["configurable"]
    conf[SEND] = _OnlyThere(conf[SEND], node)


def go_anywhere() -> None:
    """Take `go_only_to` back: a retry has the config of the execution before it."""
    conf: dict[str, Any] = get_config()["configurable"]
    if isinstance(send := conf.get(SEND), _OnlyThere):
        conf[SEND] = send.whole


class _OnlyThere:
    """Sends writes, without those that lead to other nodes than one."""

    def __init__(self, whole: Callable[[Iterable[tuple[str, Any]]], None], node: str) -> None:
        self.whole = whole
        self._node = node

    def __call__(self, writes: Iterable[tuple[str, Any]]) -> None:
        self.whole([write for write in writes if not _leads_elsewhere(write[0], self._node)])


def _leads_elsewhere(channel: str, node: str) -> bool:
    if channel.startswith(_TO):
        return channel != f"{_TO}{node}"
    return channel == SENDS or channel.startswith(JOIN)
