"""What calls of models cost is recorded when they are over, and stays recorded whatever becomes of their step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import RetryPolicy, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.calls.records import Spent, record_call, spent
from superstep.runtime.faults import StaleRun
from tests.checkpointer.calls.models import FAILED, RECORD, CountingModel, picky
from tests.support.graphs import chain, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


pytestmark = pytest.mark.usefixtures("own_cache")


async def test_an_answer_is_recorded_with_the_step_that_paid_it(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel
) -> None:
    async def decide(state: Any) -> Any:
        return {"seen": [(await routed.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (step,) = (await flow.areport(thread)).steps
    (call,) = step.calls
    assert call == {**RECORD, "node": "decide"}
    assert (step.llm_paid, step.input_tokens, step.output_tokens, step.usd) == (1, 20, 4, 0.25)
    report = (await flow.areport(thread)).to_dict()
    assert report["usage"] == {
        "llm_paid": 1, "llm_reused": 0, "input_tokens": 20, "output_tokens": 4, "usd": 0.25, "offline": False,
    }  # fmt: skip
    assert report["steps"][0] | {"prompts": [], "usd": 0.25, "calls": [call]} == report["steps"][0]


async def test_without_a_record_the_message_tells(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel
) -> None:
    routed.record = None

    async def decide(state: Any) -> Any:
        return {"seen": [(await routed.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    report = await flow.areport(thread)
    assert report.steps[0].calls == [
        {"node": "decide", "outcome": "answered", "model": "gpt", "input_tokens": 3, "output_tokens": 2, "usd": None}
    ]
    assert (report.usage["usd"], report.usage["offline"]) == (None, False)


async def test_an_answer_served_again_is_not_recorded_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, routed: CountingModel
) -> None:
    race = Race(bank, 80)
    runs = []

    async def decide(state: Any) -> Any:
        answer = await routed.ainvoke("well?")
        runs.append(answer.content)
        await race.decide()
        return {"seen": runs}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 1", "answer 1"]
    (step,) = (await flow.areport(thread)).steps
    assert (step.llm_paid, step.llm_reused, len(step.calls), step.usd) == (1, 1, 1, 0.25)


async def test_what_a_failed_task_paid_stays_paid(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, routed: CountingModel
) -> None:
    flow = transactional(chain(saver, picky(routed)))
    with pytest.raises(ValueError, match="not good enough"):
        await flow.ainvoke({"seen": []}, thread)
    assert not await bank.do("SELECT 1 FROM runtime.llm_call")
    assert (await flow.areport(thread)).usage["usd"] == 0.25
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 2"]
    (step,) = (await flow.areport(thread)).steps
    assert (step.llm_paid, step.llm_reused, step.usd) == (2, 0, 0.5)


async def test_every_attempt_of_a_retry_policy_is_paid(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel
) -> None:
    retry = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    flow = transactional(chain(saver, picky(routed), retry_policy=retry))
    await flow.ainvoke({"seen": []}, thread)
    assert [(s.llm_paid, s.usd) for s in (await flow.areport(thread)).steps] == [(2, 0.5)]


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("ms", float("nan"), None),
        ("tags", {"a", "set"}, None),
        ("tags", {("no", "text"): 1}, None),
        ("content", b"bytes", None),
        ("error", "a \0 and \\u0000 \\\0", "a  and \\u0000 \\"),
        ("usd", float("nan"), None),
        ("usd", float("inf"), None),
        ("usd", -1, None),
        ("usd", "free", None),
        ("input_tokens", 2**63, 0),
        ("input_tokens", "many", 0),
        ("output_tokens", -1, 0),
        ("model", "g\0pt", "gpt"),
        ("model", ["gpt"], None),
        ("route", 7, 7),
        ("route", "a\0b", "ab"),
    ],
)
async def test_an_answer_is_not_lost_over_its_record(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel, field: str, value: Any, kept: Any
) -> None:
    routed.record = {**RECORD, field: value}

    async def decide(state: Any) -> Any:
        return {"seen": [(await routed.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 1"]
    (call,) = (await flow.areport(thread)).steps[0].calls
    assert {**RECORD, **call, field: None} == {**RECORD, "node": "decide", field: None}
    assert call.get(field) == kept


async def test_any_record_can_be_recorded(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """Of one that no answer carries, msgpack keeps nothing out."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    async def decide(state: Any) -> Any:
        await record_call({"outcome": "?", "a": CIRCLE, "b": deep, "c": object(), "d": "\ud800", 5: 6, "e": 10**5000})

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (call,) = (await flow.areport(thread)).steps[0].calls
    assert {key: call[key] for key in call if key in {*"abcde", "5", "outcome"}} == {
        "5": 6,
        "d": "?",
        "outcome": "failed",
    }


async def test_a_failed_call_is_recorded_and_not_paid(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel
) -> None:
    async def decide(state: Any) -> Any:
        await record_call(FAILED)
        await routed.ainvoke("well?")

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (step,) = (await flow.areport(thread)).steps
    assert [call["outcome"] for call in step.calls] == ["failed", "answered"]
    assert step.calls[0]["error"] == "ProviderExhausted: nobody"
    assert (step.llm_paid, step.usd) == (1, 0.25)


async def test_a_failed_call_survives_its_task(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def decide(state: Any) -> Any:
        await record_call({**FAILED, "usd": 0.125, "input_tokens": 7})
        raise ValueError("nobody answered")

    with pytest.raises(ValueError, match="nobody answered"):
        await transactional(chain(saver, decide)).ainvoke({"seen": []}, thread)
    (row,) = await bank.do("SELECT node, outcome, input_tokens, usd, route FROM runtime.model_call")
    assert tuple(row) == ("decide", "failed", 7, 0.125, "strong")


async def test_outside_of_super_steps_nothing_is_recorded_or_known(saver: TransactionalSaver, bank: Bank) -> None:
    await record_call(FAILED)
    assert await spent(route="strong", window=None) is None
    assert await bank.do("SELECT 1 FROM runtime.model_call") == []


async def test_from_other_loops_and_threads(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    seen: list[Spent | None] = []

    def sync_node(state: Any) -> Any:
        async def call() -> None:
            await record_call({**FAILED, "input_tokens": 1})
            seen.append(await spent())

        asyncio.run(call())

    async def async_node(state: Any) -> Any:
        await asyncio.to_thread(asyncio.run, record_call({**FAILED, "input_tokens": 1}))
        seen.append(await spent())

    flow = transactional(fan(saver, sync_node, async_node))
    await asyncio.to_thread(asyncio.run, flow.ainvoke({"seen": []}, thread))  # on another loop than the saver's
    assert max(each.thread.tokens for each in seen if each) == 2
    assert {call["node"] for call in (await flow.areport(thread)).steps[0].calls} == {"sync_node", "async_node"}


@pytest.mark.parametrize("outcome", ["answered", "failed"])
async def test_a_run_that_lost_its_thread_records_no_answer_but_what_has_cost(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, outcome: str
) -> None:
    begun, taken = asyncio.Event(), asyncio.Event()

    async def decide(state: Any) -> Any:
        if not begun.is_set():
            begun.set()
            await taken.wait()
            await record_call({**FAILED, "outcome": outcome})
        return {"n": 1}

    late = asyncio.ensure_future(transactional(chain(saver, decide)).ainvoke({"n": 0}, thread))
    await begun.wait()
    async with TransactionalSaver.from_conn_string(database_url) as other:
        assert (await transactional(chain(other, decide)).ainvoke(None, thread))["n"] == 1
    taken.set()
    with pytest.raises(StaleRun):
        await late
    assert len(await bank.do("SELECT 1 FROM runtime.model_call")) == (outcome == "failed")


async def test_pruned_checkpoints_take_their_calls_along(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, routed: CountingModel
) -> None:
    async def first(state: Any) -> Any:
        await routed.ainvoke("first")

    async def second(state: Any) -> Any:
        await routed.ainvoke("second")

    async def ask(state: Any) -> Any:
        await routed.ainvoke("third")
        interrupt("?")

    await chain(saver, first, second, ask).ainvoke({"seen": []}, thread)
    await saver.aprune([thread["configurable"]["thread_id"]])
    rows = await bank.do("SELECT node FROM runtime.model_call")
    assert [row["node"] for row in rows] == ["ask"]
