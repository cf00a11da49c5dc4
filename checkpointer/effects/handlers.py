"""Handlers of effects, by topic: declared where a module of graphs is imported, used by the workers that import it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Deliver = Callable[["Effect"], Awaitable[None]]
    F = TypeVar("F", bound=Deliver)

__all__ = ["Effect", "EffectHandler", "GiveUp", "handler", "handler_of"]

_handlers: dict[str, EffectHandler] = {}


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect, as its handler is given it.

    Attributes:
        id: its identity: the same in every attempt. Hand it to the receiver, which recognises by it what it has had.
        topic: what it was emitted as.
        payload: what was emitted, as plain data of JSON.
        key: see `Step.emit`.
        thread_id: the thread that emitted it.
        attempt: which attempt to deliver it this is, from 1. One that was cut off counts.
    """

    id: str
    topic: str
    payload: Any
    key: str | None
    thread_id: str
    attempt: int


class GiveUp(Exception):
    """Raised by a handler: trying again would be in vain. The effect is a dead letter at once."""


@dataclass(frozen=True, slots=True)
class EffectHandler:
    """How effects of one topic are delivered. See `handler`."""

    topic: str
    deliver: Deliver
    attempts: int = 10
    backoff: float = 1.0
    longest: float = 300.0
    timeout: float = 30.0
    undo: Deliver | None = None

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt that has failed."""
        return min(self.longest, self.backoff * 2.0 ** min(attempt - 1, 64))


def handler(
    topic: str,
    *,
    attempts: int = 10,
    backoff: float = 1.0,
    longest: float = 300.0,
    timeout: float = 30.0,
    undo: Deliver | None = None,
) -> Callable[[F], F]:
    """Declare the function below as what delivers effects of a topic.

    It is called by workers, at least once for each effect: again if it raises, if it takes too long, and if its worker
    dies before that has noted the delivery. So it must hand `effect.id` to the receiver, or be harmless when repeated.

    Args:
        topic: see `Step.emit`.
        attempts: how often delivery is tried, before the effect is a dead letter.
        backoff: seconds after the first failure; doubles with each one.
        longest: seconds at most.
        timeout: seconds that one attempt may take. The effects of a worker that died are delivered again after that.
        undo: the compensation: an async function that takes the effect, for `runtime effects undo`. It is called until
            it returns, with the same settings.

    Raises:
        ConfigError: the function is not async, the numbers are not positive, or the topic has another handler.
    """
    if attempts < 1 or min(backoff, longest, timeout) <= 0:
        raise ConfigError(f"The handler of effects {topic!r} needs attempts, backoff, longest and timeout above 0.")

    if undo is not None:
        _refuse_plain(undo, topic)

    def declare(function: F) -> F:
        _refuse_plain(function, topic)
        made = EffectHandler(topic, function, attempts, backoff, longest, timeout, undo)
        known = _handlers.get(topic)
        if known is not None and _said(known.deliver) != _said(function):
            raise ConfigError(
                f"Effects {topic!r} have two handlers: {_said(known.deliver)} and {_said(function)}. Declare one."
            )
        _handlers[topic] = made
        return function

    return declare


def handler_of(topic: str) -> EffectHandler | None:
    """What delivers effects of a topic in this process; `None` if no module that it has imported says so."""
    return _handlers.get(topic)


def _refuse_plain(function: Any, topic: str) -> None:
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(type(function).__call__):
        raise ConfigError(f"The handler of effects {topic!r} and its undo must be async functions.")


def _said(function: Any) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
