"""Which requests are samples of their own: identical, failed, given up, retried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListLLM
from langgraph.types import Command, RetryPolicy, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.checkpointer.calls.models import CountingModel, FailingModel, picky
from tests.support.graphs import AGAIN, chain, config_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


pytestmark = pytest.mark.usefixtures("own_cache")


async def test_identical_requests_of_one_attempt_are_different_samples(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    race = Race(bank, 80)

    async def node(state: Any) -> Any:
        answers = [(await model.ainvoke("vote")).content for _ in range(2)]
        answers += [a.content for a in await asyncio.gather(model.ainvoke("vote"), model.ainvoke("vote"))]
        await race.decide()
        return {"seen": [sorted(answers)]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 80]
    assert result["seen"] == [["answer 1", "answer 2", "answer 3", "answer 4"]]
    assert len(model.calls) == 4


async def test_a_request_that_failed_does_not_count(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The re-run finds the answer at its first request, which is where the first run had none."""
    model = FailingModel(failing={1})
    race = Race(bank, 80)

    async def node(state: Any) -> Any:
        answer = await model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).ainvoke("q")
        await race.decide()
        return {"seen": [answer.content]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert (result["seen"], len(race.seen), len(model.calls)) == (["answer 2"], 2, 2)


async def test_a_failed_synchronous_request_does_not_count_either(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    model = FailingModel(failing={1})
    runs = 0

    def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        answer = model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("q")
        current_step().stage("UPDATE account SET balance = 1 WHERE id = $1", 77 if runs == 1 else 1, expect_rows=1)
        return {"seen": [answer.content]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert (result["seen"], runs, len(model.calls)) == (["answer 2"], 2, 2)


async def test_a_request_that_was_given_up_does_not_count(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Made in a task of its own, as `asyncio.wait_for` does."""
    model = FailingModel(gates={1: asyncio.Event()})
    race = Race(bank, 80)

    async def node(state: Any) -> Any:
        if not race.seen:
            asked = asyncio.create_task(model.ainvoke("q"))
            await model.waiting.wait()
            asked.cancel()
            await asyncio.wait({asked})
        answer = await model.ainvoke("q")
        await race.decide()
        return {"seen": [answer.content]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert (result["seen"], len(race.seen), len(model.calls)) == (["answer 2"], 2, 2)


async def test_a_failure_among_identical_requests_leaves_each_its_own_answer(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One of two fails and is made again while the other still waits."""
    gate = asyncio.Event()
    model = FailingModel(failing={2}, gates={1: gate})
    race = Race(bank, 80)

    async def persistent() -> str:
        try:
            answer = await model.ainvoke("vote")
        except ConnectionError:
            answer = await model.ainvoke("vote")
        if len(model.calls) == 3:
            gate.set()
        return str(answer.content)

    async def node(state: Any) -> Any:
        answers = await asyncio.gather(persistent(), persistent())
        answers.append(str((await model.ainvoke("vote")).content))
        await race.decide()
        return {"seen": [sorted(answers)]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [["answer 1", "answer 3", "answer 4"]]
    assert (len(race.seen), len(model.calls)) == (2, 4)


async def test_a_retry_policy_samples_anew(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    retry = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    result = await transactional(chain(saver, picky(model), retry_policy=retry)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["answer 2"]


async def test_a_task_that_failed_forgets_its_answers(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    flow = transactional(chain(saver, picky(model)))
    with pytest.raises(ValueError, match="not good enough"):
        await flow.ainvoke({"seen": []}, thread)
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 2"]


async def test_two_flows_asking_the_same_pay_each_for_themselves(
    saver: TransactionalSaver, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("same")).content]}

    graph = chain(saver, node)
    answers = [(await graph.ainvoke({"seen": []}, config_of(name)))["seen"] for name in ("a", "b")]
    assert answers == [["answer 1"], ["answer 2"]]


async def test_requests_to_models_that_know_no_messages_are_compared_by_their_text(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Also if it is JSON: what is the same to a parser is not to a model."""
    race = Race(bank, 80)
    model = FakeListLLM(responses=["one", "two"])

    async def node(state: Any) -> Any:
        answer = await model.ainvoke('{"balance": 1.0}' if not race.seen else '{"balance":1.0}')
        await race.decide()
        return {"seen": [answer]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == ["two"]


async def test_what_a_human_approved_is_what_the_node_goes_on_with_after_a_retry(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    """The execution that asked was the second one of a retry; the one that is resumed counts from one again."""
    failed: list[str] = []

    async def node(state: Any) -> Any:
        draft = (await model.ainvoke("draft")).content
        if not failed:
            failed.append(draft)
            raise ValueError("a bad draft")
        return {"seen": [draft, interrupt(draft)]}

    flow = transactional(chain(saver, node, retry_policy=AGAIN))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    assert question.value == "answer 2"
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == ["answer 2", "yes"]
    assert model.calls == ["draft", "draft"]
