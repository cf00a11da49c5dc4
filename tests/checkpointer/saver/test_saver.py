"""What LangGraph asks of a saver beside its conformance suite: versions, and only the head of a thread goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import (
    StaleRun,
)
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def test_versions_grow_and_forks_do_not_collide() -> None:
    saver = object.__new__(TransactionalSaver)
    first = saver.get_next_version(None, None)
    twins = {saver.get_next_version(first, None) for _ in range(200)}
    assert len(twins) == 200
    assert all(version > first for version in twins)
    version, seen = first, [first]
    for _ in range(300):
        version = saver.get_next_version(version, None)
        seen.append(version)
    assert seen == sorted(seen)


async def test_only_the_head_can_be_continued(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """A put outside any run: what LangGraph's own Postgres saver accepts twice, forking the chain silently."""

    async def node(state: Any) -> Any:
        return {"n": 1}

    graph = chain(saver, node)
    await graph.ainvoke({}, thread)
    latest = await saver.aget_tuple(thread)
    assert latest is not None
    parent = latest.config
    child = {**latest.checkpoint, "id": "9" + latest.checkpoint["id"][1:]}
    await saver.aput(parent, child, {"source": "loop", "step": 9}, {})  # type: ignore[typeddict-item]
    sibling = {**latest.checkpoint, "id": "8" + latest.checkpoint["id"][1:]}
    with pytest.raises(StaleRun):
        await saver.aput(parent, sibling, {"source": "loop", "step": 9}, {})  # type: ignore[typeddict-item]
    assert (await saver.aget_tuple(thread)).checkpoint["id"] == child["id"]  # type: ignore[union-attr]
