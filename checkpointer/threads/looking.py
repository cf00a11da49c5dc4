"""What code outside of any run has looked at last, so that a change it makes is known to continue that, or to fork.

`update_state` loads a thread and puts a checkpoint on top of what it has loaded. Of the same checkpoint it may mean two
things: without an id in its config "the latest", with one "this one, whatever came after it". The put looks the same,
so the load before it tells: both are calls of one function, hence made in one context.

A change of the latest must still continue the latest when it is stored. A super-step that was committed in between
would be cut out of the history, although its domain writes stay.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.langgraph.keys import run_key

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple

__all__ = ["continues", "looked", "stored"]


class _Look(NamedTuple):
    """Attributes: where; the checkpoint that was found there; whether it was asked for as the latest."""

    thread_id: str
    ns: str
    checkpoint_id: str | None
    as_latest: bool
    own: bool = False  # it was not loaded but stored, as what continues the latest


_look: ContextVar[_Look | None] = ContextVar("superstep_look", default=None)


def looked(config: RunnableConfig, found: CheckpointTuple | None) -> None:
    """A checkpoint was loaded; of a run that says nothing here.

    An update of several super-steps loads what it has just stored, by its id: that is the latest still.
    """
    conf = config["configurable"]
    if run_key(conf) is not None:
        return
    thread_id, ns, asked = _place(config)
    found_id = found.checkpoint["id"] if found is not None else None
    before = _look.get()
    just_stored = before is not None and before.own and before[:3] == (thread_id, ns, asked)
    _look.set(_Look(thread_id, ns, found_id, as_latest=asked is None or just_stored))


def continues(config: RunnableConfig) -> bool:
    """Whether what is put with this config, whose id is that of the parent, was made of the parent as the latest."""
    look = _look.get()
    return look is not None and look.as_latest and look[:3] == _place(config)


def stored(config: RunnableConfig, stored_as: RunnableConfig) -> None:
    """A checkpoint was put; by a run that says nothing here."""
    if run_key(config["configurable"]) is None:
        _look.set(_Look(*_place(stored_as), as_latest=False, own=continues(config)))


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    conf = config["configurable"]
    return str(conf["thread_id"]), conf.get("checkpoint_ns") or "", conf.get("checkpoint_id")
