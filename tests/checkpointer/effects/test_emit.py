"""An effect exists exactly when the commit of its super-step does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import interrupt
from pydantic import BaseModel

from superstep.checkpointer import current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import ConfigError, QueueMismatch, StepConflict, ValueNotSerializable
from superstep.runtime.flow.transactional import transactional
from tests.support.bank import BALANCE, DEBIT
from tests.support.effects import jobs, outbox, states, working
from tests.support.graphs import AGAIN, chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank
    from tests.support.effects import Received


def emitting(*payloads: Any, topic: str = "mail", key: str | None = None, name: str = "emits") -> Any:
    """A node that emits these."""

    async def node(_: Any) -> Any:
        for payload in payloads:
            current_step().emit(topic, payload, key=key)
        return {"seen": [name]}

    node.__name__ = name
    return node


async def test_an_effect_is_delivered_after_the_commit(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received
) -> None:
    async with working(saver):
        await chain(saver, emitting({"to": "ann", "cents": 250})).ainvoke({}, thread)
        await received.has(1)
    (effect,) = received.effects
    assert effect.payload == {"to": "ann", "cents": 250}
    assert (effect.topic, effect.key, effect.attempt) == ("mail", None, 1)
    assert effect.thread_id == thread["configurable"]["thread_id"]
    (stored,) = await outbox(saver)
    assert (stored.id, stored.state, stored.node) == (effect.id, "delivered", "emits")
    assert await jobs(saver) == 0


async def test_a_model_is_a_payload(saver: TransactionalSaver, thread: RunnableConfig, received: Received) -> None:
    class Mail(BaseModel):
        to: str

    async with working(saver):
        await chain(saver, emitting([Mail(to="ann"), 1.5, None, "ä\0"])).ainvoke({}, thread)
        await received.has(1)
    assert received.payloads == [[{"to": "ann"}, 1.5, None, "ä\0"]]


@pytest.mark.parametrize("payload", [{1: "a"}, object(), float("nan"), "\ud800", {"a": {b"c"}}, b"raw"])
async def test_what_json_cannot_say_is_refused_when_it_is_emitted(
    saver: TransactionalSaver, thread: RunnableConfig, payload: Any
) -> None:
    with pytest.raises(ValueNotSerializable, match="mail"):
        await chain(saver, emitting(payload)).ainvoke({}, thread)
    assert await states(saver) == []


@pytest.mark.parametrize(("topic", "key"), [("", None), ("mail", ""), ("m\0", None), ("mail", "k" * 501)])
async def test_a_topic_that_cannot_be_stored_is_refused(
    saver: TransactionalSaver, thread: RunnableConfig, topic: str, key: str | None
) -> None:
    with pytest.raises(ConfigError):
        await chain(saver, emitting(1, topic=topic, key=key)).ainvoke({}, thread)


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_commit_that_conflicts_has_no_effect(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def pays(_: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().emit("mail", {"balance": balance})
        await bank.set(balance - 1)
        return {}

    with pytest.raises(StepConflict):
        await chain(saver, pays).ainvoke({}, thread)
    assert await states(saver) == []
    assert await jobs(saver) == 0


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_flow_that_drifts_and_runs_again_has_one_effect(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, received: Received
) -> None:
    runs = 0

    async def pays(_: Any) -> Any:
        nonlocal runs
        runs += 1
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().emit("mail", {"balance": balance})
        if runs == 1:
            await bank.set(7)
        return {}

    async with working(saver):
        await transactional(chain(saver, pays)).ainvoke({}, thread)
        await received.has(1)
    assert runs == 2
    assert received.payloads == [{"balance": 7}]
    assert await states(saver) == ["delivered"]


async def test_a_repaired_commit_has_one_effect(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, received: Received
) -> None:
    """Another transaction makes the commit fail although no fact has moved."""
    tried = 0

    async def in_the_way() -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            await bank.do("UPDATE account SET note = 'x' WHERE id = 1")

    async def pays(_: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        current_step().stage(DEBIT, 1)
        current_step().emit("mail", "paid")
        return {}

    failpoints.arm("commit.validated", in_the_way)
    async with working(saver):
        await chain(saver, pays).ainvoke({}, thread)
        await received.has(1)
    assert tried == 2
    assert await bank.balance() == 99
    assert await states(saver) == ["delivered"]


async def test_a_lost_answer_to_commit_has_one_effect(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received
) -> None:
    lost = 0

    async def lose() -> None:
        nonlocal lost
        lost += 1
        if lost == 1:
            raise ConnectionResetError

    failpoints.arm("commit.lost_answer", lose)
    async with working(saver):
        await chain(saver, emitting("one")).ainvoke({}, thread)
        await received.has(1)
    assert lost == 1
    assert await states(saver) == ["delivered"]


async def test_only_the_execution_that_counts_emits(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received
) -> None:
    runs = 0

    async def fails_first(_: Any) -> Any:
        nonlocal runs
        runs += 1
        current_step().emit("mail", runs)
        if runs == 1:
            raise ValueError("again")
        return {}

    async with working(saver):
        await chain(saver, fails_first, retry_policy=AGAIN).ainvoke({}, thread)
        await received.has(1)
    assert received.payloads == [2]


async def test_a_task_that_asks_emits_nothing(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def asks(_: Any) -> Any:
        current_step().emit("mail", "too early")
        interrupt("may I?")

    await chain(saver, asks).ainvoke({}, thread)
    assert await states(saver) == []


async def test_identities_are_those_of_steps(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received
) -> None:
    graph = fan(saver, emitting("same", "same", name="one"), emitting("same", name="two"))
    async with working(saver):
        await graph.ainvoke({}, thread)
        await received.has(3)
    assert len({effect.id for effect in received.effects}) == 3


async def test_a_result_that_was_saved_emits_when_it_is_committed(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received
) -> None:
    """The sibling fails: what this task has staged is stored, read again and committed by a later run."""
    broken = True

    async def fails(_: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        if broken:
            raise ValueError("no")
        return {}

    graph = fan(saver, emitting({"k": ["v"]}, key="a"), fails)
    with pytest.raises(ValueError, match="no"):
        await graph.ainvoke({}, thread)
    assert await states(saver) == []
    broken = False
    async with working(saver):
        await graph.ainvoke(None, thread)
        await received.has(1)
    assert received.effects[0].key == "a"
    assert await states(saver) == ["delivered"]


async def test_what_is_emitted_is_no_fact_of_siblings(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def reads(_: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        current_step().emit("mail", "b")
        return {}

    record = await transactional(fan(saver, emitting("a"), reads)).ainvoke({}, thread)
    assert record is not None
    assert await states(saver) == ["waiting", "waiting"]


async def test_without_the_tables_of_the_queue_it_is_said_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await bank.do("ALTER TABLE runtime.queue_pgqueuer RENAME TO elsewhere")
    graph = chain(saver, emitting("kept"))
    with pytest.raises(QueueMismatch, match="runtime db migrate"):
        await graph.ainvoke({}, thread)
    assert await states(saver) == []
    await bank.do("ALTER TABLE runtime.elsewhere RENAME TO queue_pgqueuer")
    await graph.ainvoke(None, thread)
    assert await states(saver) == ["waiting"]


async def test_many_flows_at_once(saver: TransactionalSaver, received: Received) -> None:
    graph = transactional(chain(saver, emitting("x", "y")))
    async with working(saver, concurrency=8):
        await asyncio.gather(*(graph.ainvoke({}, {"configurable": {"thread_id": f"t{n}"}}) for n in range(20)))
        await received.has(40)
    assert len({effect.id for effect in received.effects}) == 40
    assert len(received.tried) == 40
