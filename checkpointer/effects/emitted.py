"""An effect as a task has emitted it. Pure data."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Emitted"]


class Emitted(NamedTuple):
    """An effect as a task has emitted it.

    Attributes:
        ns: namespace of the graph.
        nodes: the same without the ids of tasks.
        checkpoint_id: what the super-step started from.
        root: the same for the outermost graph.
        task_id: of the task.
        node: its name.
        nth: effects that the task has emitted before it.
        topic: says which handler delivers it.
        key: effects of one topic and key are delivered one after the other; `None` for one that waits for none.
        document: the payload, as the text of a JSON document.
    """

    ns: str
    nodes: str
    checkpoint_id: str
    root: str
    task_id: str
    node: str
    nth: int
    topic: str
    key: str | None
    document: str
