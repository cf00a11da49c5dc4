"""Emitting effects from a step."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from superstep.checkpointer.langgraph.ids import usable
from superstep.checkpointer.langgraph.place import nodes_around
from superstep.checkpointer.step.read_set import Emission, Staged
from superstep.runtime.faults import ConfigError, ValueNotSerializable

if TYPE_CHECKING:
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["Emits", "document_of", "require_queue"]

_LONGEST = 500  # characters of a topic or a key


class Emits:
    """The part of `Step` that emits."""

    _step: SuperStep
    _attempt: Attempt

    def _stage(self, staged: Staged) -> None:
        raise NotImplementedError

    def emit(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """Emit an effect: something that is to happen outside of the database, once the super-step has committed.

        It exists exactly if the super-step commits. A worker then hands it to the handler of its topic, at least once,
        until that succeeds or gives up. The handler is given the effect's identity, by which the receiver recognises
        an effect that it has had before. The identity is that of the step and the call, and not what the payload says.

        Args:
            topic: which handler delivers it, see `superstep.effects.handler`.
            payload: a pydantic model, or what JSON can say: dicts with text keys, lists, text, numbers, truth values,
                `None`, and models in them.
            key: effects of the same topic and key are delivered one after the other, in the order of their commits.
                One waits until the one before it is delivered or dropped.

        Raises:
            ValueNotSerializable: the payload is nothing that JSON can say.
            ConfigError: the topic or the key cannot be stored, or the package of the queue is not installed.
            StepConflict: what this task read before has changed. Do not catch it: it makes the task run again.
        """
        require_queue("step.emit()")
        if not topic or len(topic) > _LONGEST or (key is not None and not 0 < len(key) <= _LONGEST):
            raise ConfigError(f"emit(): topic and key are texts of 1 to {_LONGEST} characters.")
        usable(topic, "The topic")
        usable(key or "", "The key")
        document = document_of(payload, f"The payload of effect {topic!r}", "Give emit()")
        step, attempt = self._step, self._attempt
        nth = sum(isinstance(staged, Emission) for staged in attempt.staged)
        place = step.ns, nodes_around(step.ns), step.checkpoint_id, attempt.root, attempt.task_id, attempt.node, nth
        self._stage(Emission.of(topic, *place, topic, key, document))


class _NotJson(ValueError):
    """Says which value JSON has no form for."""


def require_queue(who: str) -> None:
    """Raise `ConfigError` unless the package of the queue is installed."""
    if find_spec("pgqueuer") is None:
        raise ConfigError(
            f"{who} needs the queue, whose package is not installed. Install `superstep-runtime[queue]`, then run "
            f"`runtime db migrate`, which makes the tables of the queue."
        )


def document_of(payload: Any, what: str, advice: str) -> str:
    """A payload as the text of a JSON document.

    Raises:
        ValueNotSerializable: JSON cannot say it. `what` and `advice` begin the sentences of the message.
    """
    try:
        text = json.dumps(_plain(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, RecursionError) as e:
        why = str(e) if isinstance(e, _NotJson) else f"JSON cannot say it ({type(e).__name__})"
        raise ValueNotSerializable(
            f"{what} cannot be stored: {why}. {advice} a pydantic model, or what JSON can say."
        ) from e
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        if not all(isinstance(each, str) for each in value):
            raise _NotJson("a dict in it has keys that are no text")
        return {each: _plain(inner) for each, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise _NotJson(f"it is, or has in it, a {type(value).__name__}")
