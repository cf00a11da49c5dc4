"""Of several executions of a node, exactly the finishing one counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.errors import NodeTimeoutError
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, TimeoutPolicy

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import AGAIN, State, chain, fan, steps_of
from tests.support.internals import pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


@pytest.mark.parametrize("second", ["silent", "reads", "stages"])
@pytest.mark.parametrize("wrap", [False, True])
async def test_only_the_finishing_attempt_of_a_retried_node_writes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, second: str, wrap: bool
) -> None:
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            await current_step().fetchval(BALANCE, 1)
            current_step().stage(LOG, "first")
            raise ValueError("try again")
        if second == "reads":
            await current_step().fetchval(BALANCE, 1)
        if second == "stages":
            current_step().stage(LOG, "second")
        return {"n": len(tries)}

    graph = chain(saver, node, retry_policy=AGAIN)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"n": 0}, thread))["n"] == 2
    assert await bank.journal() == (["second"] if second == "stages" else [])
    (step,) = await steps_of(saver, thread)
    assert (step.writes, step.reads) == (int(second == "stages"), int(second == "reads"))
    assert pinned(saver) == 0


async def test_sync_node_that_is_retried_writes_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    tries: list[int] = []

    def node(state: Any) -> Any:
        tries.append(1)
        current_step().sync.stage(LOG, f"try {len(tries)}")
        if len(tries) < 3:
            raise ValueError("try again")

    await chain(saver, node, retry_policy=AGAIN).ainvoke({"n": 0}, thread)
    assert await bank.journal() == ["try 3"]


@pytest.mark.parametrize("hold_idle", [0])
async def test_what_an_abandoned_attempt_read_is_nobodys_fact(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The second attempt decided without those reads, so that they moved is no conflict."""
    race = Race(bank, 55)
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            await race.read()
            raise ValueError("try again")
        return {"n": len(tries)}

    async def sibling(state: Any) -> Any:
        current_step().stage(LOG, "sibling")

    builder = StateGraph(State)
    builder.add_node("node", node, retry_policy=AGAIN)
    builder.add_node("sibling", sibling)
    builder.add_edge(START, "node")
    builder.add_edge(START, "sibling")
    graph = builder.compile(checkpointer=saver)
    assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
    assert await bank.balance() == 55
    assert await bank.journal() == ["sibling"]


@pytest.mark.parametrize("hold_idle", [0])
async def test_retry_policy_does_not_swallow_a_conflict(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    async def node(state: Any) -> Any:
        await race.read()
        await current_step().fetchval(BALANCE, 2)

    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=5, retry_on=Exception)
    with pytest.raises(StepConflict):
        await chain(saver, node, retry_policy=policy).ainvoke({"n": 0}, thread)
    assert race.seen == [100]


async def test_attempts_after_the_last_leave_nothing_and_can_be_resumed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    broken = [True]

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "written")
        if broken[0]:
            raise ValueError("always")

    flow = transactional(chain(saver, node, retry_policy=AGAIN))
    with pytest.raises(ValueError, match="always"):
        await flow.ainvoke({"n": 0}, thread)
    assert await bank.journal() == []
    broken[0] = False
    await flow.ainvoke(None, thread)
    assert await bank.journal() == ["written"]


async def test_a_node_that_timed_out_leaves_nothing_of_its_attempt(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never = asyncio.Event()
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, f"try {len(tries)}")
        if len(tries) == 1:
            await never.wait()
        return {"n": len(tries)}

    timeout = TimeoutPolicy(run_timeout=0.5)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Exception)
    graph = chain(saver, node, timeout=timeout, retry_policy=policy)
    assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
    assert await bank.journal() == ["try 2"]


async def test_a_node_that_timed_out_for_good_can_be_resumed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never = asyncio.Event()
    patient = [False]

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "done")
        if not patient[0]:
            await never.wait()

    flow = transactional(chain(saver, node, timeout=TimeoutPolicy(run_timeout=0.2)))
    with pytest.raises(NodeTimeoutError):
        await flow.ainvoke({"n": 0}, thread)
    assert pinned(saver) == 0
    assert await bank.journal() == []
    patient[0] = True
    never.set()
    await flow.ainvoke(None, thread)
    assert await bank.journal() == ["done"]


@pytest.mark.parametrize("wrap", [False, True])
async def test_inner_node_of_a_caller_that_timed_out_and_was_retried_writes_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    """The caller's attempt number changes, the inner task's id and attempt number do not."""
    never = asyncio.Event()
    tries: list[int] = []

    async def inner_node(state: Any) -> Any:
        tries.append(1)
        step = current_step()
        step.stage(LOG, f"try {len(tries)}")
        await step.fetchval(BALANCE, 1)
        if len(tries) == 1:
            await never.wait()

    inner = chain(None, inner_node)

    async def caller(state: Any) -> Any:
        await inner.ainvoke({"n": 1})

    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Exception)
    graph = chain(saver, caller, timeout=TimeoutPolicy(run_timeout=0.5), retry_policy=policy)
    await (transactional(graph) if wrap else graph).ainvoke({"n": 0}, thread)
    assert len(tries) == 2
    assert await bank.journal() == ["try 2"]


async def test_inner_sibling_cancelled_by_a_failure_writes_once_when_the_caller_is_retried(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never, staged = asyncio.Event(), asyncio.Event()
    tries: Counter[str] = Counter()

    async def waiting(state: Any) -> Any:
        tries["waiting"] += 1
        current_step().stage(LOG, f"waiting {tries['waiting']}")
        staged.set()
        if tries["waiting"] == 1:
            await never.wait()

    async def failing(state: Any) -> Any:
        tries["failing"] += 1
        current_step().stage(LOG, f"failing {tries['failing']}")
        await staged.wait()
        if tries["failing"] == 1:
            raise ValueError("try again")

    inner = fan(None, failing, waiting)

    async def caller(state: Any) -> Any:
        await inner.ainvoke({"n": 1})

    await chain(saver, caller, retry_policy=AGAIN).ainvoke({"n": 0}, thread)
    assert tries == {"waiting": 2, "failing": 2}
    assert await bank.journal() == ["failing 2", "waiting 2"]


@pytest.mark.parametrize("wrap", [False, True])
async def test_error_handler_writes_and_the_failed_node_does_not(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    async def risky(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "risky")
        raise ValueError("no luck")

    async def handler(state: Any) -> Any:
        step = current_step()
        step.stage(LOG, "handled")
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    builder = StateGraph(State)
    builder.add_node("risky", risky, error_handler=handler)
    builder.add_edge(START, "risky")
    graph = builder.compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [100]
    assert await bank.journal() == ["handled"]


async def test_error_handler_that_conflicts_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)
    runs: Counter[str] = Counter()

    async def risky(state: Any) -> Any:
        runs["risky"] += 1
        raise ValueError("no luck")

    async def handler(state: Any) -> Any:
        runs["handler"] += 1
        return {"seen": [await race.decide()]}

    builder = StateGraph(State)
    builder.add_node("risky", risky, error_handler=handler)
    builder.add_edge(START, "risky")
    flow = transactional(builder.compile(checkpointer=saver))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [55]
    assert runs == {"risky": 1, "handler": 2}
    assert await bank.balance() == 54
