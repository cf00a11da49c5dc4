"""Ids that callers choose, as columns of text hold them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checkpoint_of", "input_task", "namespace_of", "thread_of", "usable", "usable_thread"]

_INPUT = "__input__"
_THREAD = "The thread id"
_SHOWN = 200  # characters of an id in a message


def thread_of(conf: Mapping[str, Any]) -> str:
    """The thread that a config is about.

    Raises:
        ConfigError: PostgreSQL cannot hold its id.
    """
    return usable(conf["thread_id"], _THREAD)


def usable_thread(thread_id: Any) -> str:
    """A thread's id as text. See `usable`."""
    return usable(thread_id, _THREAD)


def checkpoint_of(conf: Mapping[str, Any]) -> str | None:
    """The checkpoint that a config is about, if it names one. See `usable`."""
    named = conf.get("checkpoint_id")
    return named if named is None else usable(named, "The checkpoint id")


def namespace_of(conf: Mapping[str, Any]) -> str:
    """The namespace of the graph that a config is about, "" for the outermost.

    Raises:
        ConfigError: PostgreSQL cannot hold it.
    """
    return usable(conf.get("checkpoint_ns") or "", "The namespace, which has the names of nodes,")


def input_task(checkpoint_id: str) -> str:
    """The task for which LangGraph keeps what new input writes to delta channels, with the checkpoint it came in at."""
    return str(uuid5(UUID(checkpoint_id), _INPUT))


def usable(value: Any, what: str) -> str:
    """An id as text.

    Raises:
        ConfigError: it has a character that PostgreSQL cannot hold. An id without it would be another one.
    """
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and "\0" not in text:
        return text
    if "\0" in text:
        raise ConfigError(
            f"{what} {text[:_SHOWN]!r} has a NUL character, which PostgreSQL cannot hold. Choose another one."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{what} {text[:_SHOWN]!r} has half of a surrogate pair, which is no character. Choose another one."
        ) from None
    return text
