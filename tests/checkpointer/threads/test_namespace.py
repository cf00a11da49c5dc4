"""A namespace is waited for until its checkpoint is committed, and fails as the commit does."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Send

from superstep.checkpointer.langgraph.keys import SENDS
from superstep.checkpointer.threads.namespace import _RECENT, Namespace
from superstep.runtime.faults import StepConflict

IDS = ["1", "2", "3"]
events = st.lists(st.tuples(st.sampled_from(["wait", "arrive", "fail", "load"]), st.sampled_from(IDS)), max_size=25)


@given(events)
def test_nothing_passes_a_checkpoint_that_is_not_committed(some: list[tuple[str, str]]) -> None:
    asyncio.run(_play(some))


async def _play(some: list[tuple[str, str]]) -> None:
    namespace = Namespace()
    committed: deque[str] = deque(maxlen=_RECENT)
    failure: StepConflict | None = None
    waiting: list[tuple[str, asyncio.Task[None]]] = []
    for event, checkpoint_id in some:
        if event == "wait":
            task = asyncio.create_task(namespace.committed(checkpoint_id))
            await asyncio.sleep(0)
            if checkpoint_id in committed:
                assert task.done()
                task.result()
            elif failure is not None:
                with pytest.raises(StepConflict) as raised:
                    await task
                assert raised.value is failure
            else:
                assert not task.done()
                waiting.append((checkpoint_id, task))
        elif event == "arrive":
            namespace.arrived(checkpoint_id)
            committed.append(checkpoint_id)
            await _settle([task for each, task in waiting if each == checkpoint_id], None)
            waiting = [(each, task) for each, task in waiting if each != checkpoint_id]
            assert namespace.stands_at(checkpoint_id)
        elif event == "fail":
            failure = StepConflict("moved")
            namespace.fail(failure)
            await _settle([task for _, task in waiting], failure)
            waiting.clear()
        else:
            checkpoint: Any = {**empty_checkpoint(), "id": checkpoint_id}
            namespace.load(checkpoint, None, None, {})
            committed.append(checkpoint_id)
            failure = None
            # What waits for a checkpoint that is loaded instead of committed belongs to an earlier load.
            await _cancel([task for each, task in waiting if each == checkpoint_id])
            waiting = [(each, task) for each, task in waiting if each != checkpoint_id]
    await _cancel([task for _, task in waiting])


async def _settle(tasks: list[asyncio.Task[None]], error: StepConflict | None) -> None:
    for task in tasks:
        if error is None:
            await task
        else:
            with pytest.raises(StepConflict) as raised:
                await task
            assert raised.value is error


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cancelled_wait_does_not_cancel_the_others() -> None:
    namespace = Namespace()
    one, other = [asyncio.create_task(namespace.committed("1")) for _ in range(2)]
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    namespace.arrived("1")
    await other
    assert one.cancelled()


def test_a_new_checkpoint_tells_whose_super_step_it_ends() -> None:
    def checkpoint(seen: dict[str, Any], *sends: Send) -> Any:
        return {**empty_checkpoint(), "versions_seen": seen, "channel_values": {SENDS: list(sends)} if sends else {}}

    namespace = Namespace()
    namespace.load(checkpoint({"plan": {"goal": "1"}}), None, None, {})
    seen = {"__input__": {}, "plan": {"goal": "1"}, "draft": {"goal": "1"}, "check": {"goal": "1"}}
    assert namespace.advance(checkpoint(seen, Send("fetch", 1), Send("fetch", 2))) == {"draft", "check"}
    again = {**seen, "plan": {"goal": "2"}}
    assert namespace.advance(checkpoint(again)) == {"plan", "fetch"}
    assert namespace.advance(checkpoint(again)) == set()
