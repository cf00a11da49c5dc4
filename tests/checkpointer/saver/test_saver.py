"""What LangGraph asks of a saver beside its conformance suite: versions, and only the head of a thread goes on."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import (
    StaleRun,
)
from tests.support.graphs import LARGE, chain

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


def test_versions_do_not_come_from_the_generator_that_a_program_seeds() -> None:
    saver = object.__new__(TransactionalSaver)
    random.seed(7)
    before = random.getstate()
    one = saver.get_next_version(None, None)
    assert random.getstate() == before
    assert saver.get_next_version(None, None) != one


async def test_forks_in_a_seeded_program_keep_their_values(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """Values as large as these are stored by the version of their channel."""

    async def node(state: Any) -> Any:
        return {"n": 1}

    graph = chain(saver, node)
    await graph.ainvoke({}, thread)
    head = (await graph.aget_state(thread)).config
    forks = []
    for text in ("a", "b"):
        random.seed(7)
        forks.append(await graph.aupdate_state(head, {"bag": {"text": text * LARGE}}, as_node="node"))
    bags = [(await graph.aget_state(fork)).values["bag"] for fork in forks]
    assert [bag["text"][0] for bag in bags] == ["a", "b"]


async def test_workers_differ_where_uuid4_is_replaced(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As LangGraph's own tests do; two workers of one name would take each other for themselves."""
    fixed = uuid.UUID(int=7, version=4)
    monkeypatch.setattr(uuid, "uuid4", lambda: fixed)
    async with (
        TransactionalSaver.from_conn_string(database_url) as one,
        TransactionalSaver.from_conn_string(database_url) as other,
    ):
        assert len({fixed, one.runs.worker.id, other.runs.worker.id}) == 3


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
