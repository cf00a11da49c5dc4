"""The synchronous half: from other threads and loops, and refused on the saver's own loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.saver import sync
from superstep.runtime.faults import (
    NoActiveStep,
)
from tests.support.bank import LOG, Bank
from tests.support.graphs import chain, config_of
from tests.support.internals import from_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


async def test_sync_methods_work_from_another_thread(saver: TransactionalSaver) -> None:
    def work() -> dict[str, Any]:
        checkpoint = {**empty_checkpoint(), "channel_values": {"x": 1}, "channel_versions": {"x": "1"}}
        stored = saver.put(config_of("t", checkpoint_ns=""), checkpoint, {"source": "update", "step": 0}, {"x": "1"})
        saver.put_writes(stored, [("x", 2)], "task")
        loaded = saver.get_tuple(config_of("t"))
        assert loaded is not None
        saver.copy_thread("t", "copy")
        saver.prune(["copy"], strategy="keep_latest")
        history = saver.get_delta_channel_history(config=stored, channels=["x"])
        listed = [item.checkpoint["id"] for item in saver.list(config_of("copy"), limit=5)]
        saver.delete_for_runs(["nobody"])
        saver.delete_thread("t")
        return {
            "values": loaded.checkpoint["channel_values"],
            "writes": loaded.pending_writes,
            "listed": listed == [checkpoint["id"]],
            "history": dict(history["x"]),
            "gone": saver.get_tuple(config_of("t")) is None,
        }

    assert await asyncio.to_thread(work) == {
        "values": {"x": 1},
        "writes": [("task", "x", 2)],
        "listed": True,
        "history": {"writes": []},
        "gone": True,
    }


CALLS: dict[str, Callable[[TransactionalSaver], Any]] = {
    "get_tuple": lambda saver: saver.get_tuple(config_of("t")),
    "list": lambda saver: list(saver.list(config_of("t"))),
    "put": lambda saver: saver.put(config_of("t", checkpoint_ns=""), empty_checkpoint(), {}, {}),
    "put_writes": lambda saver: saver.put_writes(config_of("t", checkpoint_id="1"), [], "task"),
    "delete_thread": lambda saver: saver.delete_thread("t"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["r"]),
    "copy_thread": lambda saver: saver.copy_thread("t", "u"),
    "prune": lambda saver: saver.prune(["t"]),
    "history": lambda saver: saver.get_delta_channel_history(config=config_of("t"), channels=["x"]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_sync_methods_on_the_loops_own_thread_are_refused(saver: TransactionalSaver, call: str) -> None:
    with pytest.raises(NoActiveStep):
        CALLS[call](saver)


async def test_flow_invoke_and_stream_on_the_loops_own_thread_are_refused(saver: TransactionalSaver) -> None:
    def node(state: Any) -> Any:
        return {"n": 1}

    flow = transactional(chain(saver, node))
    with pytest.raises(NoActiveStep):
        flow.invoke({"n": 0}, config_of("t"))
    with pytest.raises(NoActiveStep):
        list(flow.stream({"n": 0}, config_of("t")))
    assert await asyncio.to_thread(flow.invoke, {"n": 0}, config_of("t")) == {"n": 1, "seen": []}


async def test_async_methods_work_from_another_loop(saver: TransactionalSaver) -> None:
    """A flow may run on another event loop than the saver's."""

    async def node(state: Any) -> Any:
        return {"n": await current_step().fetchval("SELECT 7")}

    flow = transactional(chain(saver, node))
    result = await asyncio.to_thread(asyncio.run, flow.ainvoke({"n": 0}, config_of("t")))
    assert result["n"] == 7


def test_a_checkpoint_does_not_overtake_the_results_it_rests_on(
    sync_saver: TransactionalSaver, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synchronous graphs hand both in from a pool of threads; here the result comes second for certain."""
    put_called = threading.Event()
    put, put_writes = sync.SyncBridge.put, sync.SyncBridge.put_writes

    def slow_put_writes(self: Any, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if "node" in task_path:
            assert put_called.wait(20)
        put_writes(self, config, writes, task_id, task_path)

    def noted_put(self: Any, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] == 1:
            put_called.set()
        return put(self, config, checkpoint, metadata, new_versions)

    monkeypatch.setattr(sync.SyncBridge, "put_writes", slow_put_writes)
    monkeypatch.setattr(sync.SyncBridge, "put", noted_put)

    def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        return {"n": 1}

    assert chain(sync_saver, node).invoke({"n": 0}, thread)["n"] == 1
    assert from_thread(sync_saver, Bank(sync_saver).journal()) == ["x"]
