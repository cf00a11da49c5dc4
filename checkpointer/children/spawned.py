"""A child run as a task has spawned it. Pure.

A child has an identity, made like that of an effect: thread, namespace, the checkpoint that the super-step started
from, the task, and its number among the children of that task. Never what it is to do: a model that words the order
otherwise when the step is tried again has spawned the same child. Its run, and its thread unless one is named, are
called by it.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OF_RUN", "OTHERWISE", "OUTCOME", "WAKE", "Place", "Spawned", "identity", "run_of"]

OF_RUN = "request of a run"
"""The column that a run's request is bound to when it is encrypted; its key is the id of the run."""

OUTCOME = "outcome of a child"
"""The same for what a child has ended with; its key is the identity."""

OTHERWISE = "answer to a question whose time is over"
"""The same for that; its key is thread and name of the question."""

WAKE = "run"
"""The kind of the queue's jobs that say: a run has come."""


class Place(NamedTuple):
    """Where a task spawns: the same for all children of a task.

    Attributes:
        ns: namespace of the graph.
        nodes: the same without the ids of tasks.
        checkpoint_id: what the super-step started from.
        root: the same for the outermost graph.
        task_id: of the task.
        node: its name.
    """

    ns: str
    nodes: str
    checkpoint_id: str
    root: str
    task_id: str
    node: str


class Spawned(NamedTuple):
    """A child.

    Attributes:
        nth: children that the task has spawned before it.
        graph: name of its graph.
        thread: of the child.
        kind: format of `request`.
        request: what its run is entered with, as it is stored.
    """

    nth: int
    graph: str
    thread: str
    kind: str
    request: bytes


def identity(thread_id: str, place: Sequence[str], nth: int) -> str:
    """What identifies a child: 32 hexadecimal digits, the same however often the step is tried."""
    ns, _, checkpoint_id, _, task_id, _ = place
    parts = ["child", thread_id, ns, checkpoint_id, task_id, nth]
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def run_of(child_id: str) -> UUID:
    """The id of its run."""
    return UUID(hex=child_id)
