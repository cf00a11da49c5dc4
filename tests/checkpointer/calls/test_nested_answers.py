"""A task that runs again runs its subgraphs again: what they ask in the same way is not paid again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.calls import memo
from superstep.runtime.faults import StaleRun, StepConflict
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import AGAIN, State, chain, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.checkpointer.calls.models import CountingModel
    from tests.support.bank import Bank

pytestmark = pytest.mark.usefixtures("own_cache")


def agent(model: CountingModel, *requests: str, stateful: bool = False, depth: int = 1) -> Any:
    """Asks one thing after the other, each in a super-step of its own; `depth` graphs deep."""

    def asking(number: int, request: str) -> Any:
        async def node(state: Any) -> Any:
            return {"seen": [(await model.ainvoke(request.format(**state))).content]}

        node.__name__ = f"ask_{number}"
        return node

    graph: Any = chain(stateful or None, *(asking(*each) for each in enumerate(requests)))
    for _ in range(depth - 1):
        graph = StateGraph(State).add_node("deeper", graph).add_edge(START, "deeper").compile(checkpointer=None)
    return graph


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("reads_first", [False, True])
async def test_a_caller_that_drifts_pays_only_for_what_is_asked_otherwise(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel, *, reads_first: bool,
    stateful: bool, depth: int,
) -> None:  # fmt: skip
    race = Race(bank, 80)
    inner = agent(model, "hello", "again {n}", stateful=stateful, depth=depth)

    async def caller(state: Any) -> Any:
        n = await race.read() if reads_first else 0
        said = (await inner.ainvoke({"n": n, "seen": []}))["seen"]
        n = n or await race.read()
        current_step().stage(DEBIT, 1)
        return {"n": n, "seen": [said[0], said[-1]]}

    flow = transactional(chain(saver, caller))
    result = await flow.ainvoke({"seen": []}, thread)
    if reads_first:
        assert model.calls == ["hello", "again 100", "again 80"]
        assert result["seen"] == ["answer 1", "answer 3"]
    else:
        assert model.calls == ["hello", "again 0"]
        assert result["seen"] == ["answer 1", "answer 2"]
    assert await bank.balance() == 79
    usage = (await flow.areport(thread)).usage
    assert (usage["llm_paid"], usage["llm_reused"]) == (len(model.calls), 1 if reads_first else 2)


@pytest.mark.parametrize("depth", [1, 2])
async def test_nor_if_the_connection_is_lost_when_the_answer_has_been_found(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    model: CountingModel,
    monkeypatch: pytest.MonkeyPatch,
    depth: int,
) -> None:
    race = Race(bank, 80)
    inner = agent(model, "hello", depth=depth)
    take, lost = memo.take_over, []

    async def loses(conn: Any, *args: Any) -> Any:
        row = await take(conn, *args)
        if row["kind"] is not None:
            lost.append(row)
            conn.terminate()
            await conn.execute("SELECT 1")
        return row

    async def caller(state: Any) -> Any:
        said = (await inner.ainvoke({"n": 0, "seen": []}))["seen"]
        n = await race.read()
        current_step().stage(DEBIT, 1)
        return {"n": n, "seen": said}

    monkeypatch.setattr(memo, "take_over", loses)
    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert (len(lost), model.calls, result["seen"]) == (1, ["hello"], ["answer 1"])


async def test_nor_if_the_answer_is_locked_by_a_connection_that_is_ending(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    """As that of a run that was killed in the middle of the same statement, which the database undoes later."""
    race, ending = Race(bank, 80), AsyncExitStack()

    async def caller(state: Any) -> Any:
        if race.over:
            tx = await ending.enter_async_context(saver.transaction())
            await tx.execute("SELECT FROM runtime.llm_call WHERE attempt = 0 FOR UPDATE")
        said = (await agent(model, "hello").ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": said}

    flow = asyncio.create_task(transactional(chain(saver, caller)).ainvoke({"seen": []}, thread))
    await bank.lock_waited_for(unless=flow)
    await ending.aclose()
    assert (await flow)["seen"] == ["answer 1"]
    assert model.calls == ["hello"]


async def test_a_run_that_loses_its_thread_while_it_looks_for_the_answer_does_not_pay(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    race, take = Race(bank, 80), memo.take_over

    async def late(conn: Any, *args: Any) -> Any:
        if race.over:
            await bank.do("UPDATE runtime.thread SET token = token + 1")
        return await take(conn, *args)

    async def caller(state: Any) -> Any:
        said = (await agent(model, "hello").ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": said}

    monkeypatch.setattr(memo, "take_over", late)
    with pytest.raises(StaleRun):
        await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert model.calls == ["hello"]


async def test_so_it_is_after_several_drifts_of_callers_at_several_levels(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    outer_race, inner_race = Race(bank, 7, 8, account=1), Race(bank, 5, 6, account=2)
    inner = agent(model, "hello", "still there?")

    async def middle(state: Any) -> Any:
        said = (await inner.ainvoke({"seen": []}))["seen"]
        await inner_race.read()
        current_step().stage("UPDATE account SET note = 'x' WHERE id = 3")
        return {"seen": said}

    async def outer(state: Any) -> Any:
        said = (await chain(None, middle).ainvoke({"seen": []}))["seen"]
        await outer_race.decide()
        return {"seen": said}

    result = await transactional(chain(saver, outer)).ainvoke({"seen": []}, thread)
    assert model.calls == ["hello", "still there?"]
    assert result["seen"] == ["answer 1", "answer 2"]


async def test_samples_are_taken_over_one_by_one(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    """The second execution asks once more than the first: it has the answers of the first, and a new one."""
    race = Race(bank, 80)

    async def caller(state: Any) -> Any:
        times = 3 if race.over else 2
        said = (await agent(model, *["the same"] * times).ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": said}

    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["answer 1", "answer 2", "answer 3"]


async def test_a_loop_that_asks_the_same_again_samples_again(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    async def caller(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        first = (await agent(model, "the same", "the same").ainvoke({"seen": []}))["seen"]
        return {"seen": first}

    flow = transactional(chain(saver, caller))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 1", "answer 2"]
    assert (await flow.ainvoke({"seen": []}, thread))["seen"][2:] == ["answer 3", "answer 4"]


async def test_another_process_that_goes_on_takes_them_over(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig, model: CountingModel
) -> None:
    race = Race(bank, 80)

    def graph(saver: TransactionalSaver) -> Any:
        async def caller(state: Any) -> Any:
            said = (await agent(model, "hello").ainvoke({"seen": []}))["seen"]
            await race.decide()
            return {"seen": said}

        return chain(saver, caller)

    with pytest.raises(StepConflict):
        await graph(saver).ainvoke({"seen": []}, thread)
    async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
        assert (await graph(elsewhere).ainvoke(None, thread))["seen"] == ["answer 1"]
    assert model.calls == ["hello"]


async def test_siblings_that_call_the_same_agent_have_each_its_own(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    races = [Race(bank, 80, account=1), Race(bank, 90, account=2)]

    async def calls(race: Race) -> Any:
        said = (await agent(model, "hello").ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": said}

    async def one(state: Any) -> Any:
        return await calls(races[0])

    async def other(state: Any) -> Any:
        return await calls(races[1])

    result = await transactional(fan(saver, one, other)).ainvoke({"seen": []}, thread)
    assert model.calls == ["hello", "hello"]
    assert sorted(result["seen"]) == ["answer 1", "answer 2"]


async def test_a_retry_and_an_error_sample_anew(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    """What was answered before a node failed was part of the failure, in its subgraphs too."""
    race, outage = Race(bank, 80), True

    async def fails_after_a_drift(state: Any) -> Any:
        if race.over and outage:
            raise KeyError("down")
        said = (await agent(model, "hello").ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": said}

    flow = transactional(chain(saver, fails_after_a_drift))
    with pytest.raises(KeyError):
        await flow.ainvoke({"seen": []}, thread)
    outage = False
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 2"]

    tries: list[int] = []

    async def retried(state: Any) -> Any:
        said = (await agent(model, "hi").ainvoke({"seen": []}))["seen"]
        tries.append(1)
        if len(tries) == 1:
            raise ValueError(said)
        return {"seen": said}

    other = transactional(chain(saver, retried, retry_policy=AGAIN))
    result = await other.ainvoke({"seen": []}, {"configurable": {"thread_id": "retried"}})
    assert model.calls[2:] == ["hi", "hi"]
    assert result["seen"] == ["answer 4"]
