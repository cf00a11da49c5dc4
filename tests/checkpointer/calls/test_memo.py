"""An LLM call is paid once per super-step: across conflicts, crashes and interrupts, but not across errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.types import Command, RetryPolicy, interrupt
from pydantic import Field

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.calls import memo
from superstep.checkpointer.database import failpoints
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

BALANCE = "SELECT balance FROM account WHERE id = $1"


class CountingModel(BaseChatModel):
    """Answers with the number of the call, so that every paid call has another answer."""

    calls: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.calls.append(str(messages[-1].content))
        message = AIMessage(
            content=f"answer {len(self.calls)}",
            usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            response_metadata={"model_name": "counting-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class FailingModel(CountingModel):
    """Like `CountingModel`, but the calls with these numbers are not answered; those with a gate wait for it."""

    failing: set[int] = Field(default_factory=set)
    gates: dict[int, asyncio.Event] = Field(default_factory=dict)
    waiting: asyncio.Event = Field(default_factory=asyncio.Event)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages)
        if len(self.calls) in self.failing:
            raise ConnectionError("no answer")
        return result

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        gate = self.gates.get(len(self.calls) + 1)
        result = self._generate(messages)
        if gate:
            self.waiting.set()
            await gate.wait()
        return result


@pytest.fixture
def model() -> CountingModel:
    return CountingModel(calls=[])


@pytest.fixture(autouse=True)
def own_cache() -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(None)
    memo.install()
    yield
    set_llm_cache(before)


async def test_a_conflict_pays_only_for_requests_that_changed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    interfered = False

    async def node(state: Any) -> Any:
        nonlocal interfered
        step = current_step()
        greeting = await model.ainvoke("hello")
        balance = await step.fetchval(BALANCE, 1)
        judged = await model.ainvoke(f"balance {balance}")
        if not interfered:
            interfered = True
            await bank.set(80)
        step.stage("UPDATE account SET note = $1 WHERE id = 1", judged.content, expect_rows=1)
        return {"seen": [greeting.content, judged.content]}

    flow = transactional(chain(saver, node))
    result = await flow.ainvoke({"seen": []}, thread)
    assert model.calls == ["hello", "balance 100", "balance 80"]
    assert result["seen"] == ["answer 1", "answer 3"]
    report = await flow.areport(thread)
    assert [(s.llm_paid, s.llm_reused, s.attempts) for s in report.steps] == [(3, 1, 2)]
    assert report.usage == {
        "llm_paid": 3, "llm_reused": 1, "input_tokens": 9, "output_tokens": 6, "usd": None, "offline": False,
    }  # fmt: skip


async def test_identical_requests_of_one_attempt_are_different_samples(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    interfered = False

    async def node(state: Any) -> Any:
        nonlocal interfered
        answers = [(await model.ainvoke("vote")).content for _ in range(2)]
        answers += [a.content for a in await asyncio.gather(model.ainvoke("vote"), model.ainvoke("vote"))]
        await current_step().fetchval(BALANCE, 1)
        if not interfered:
            interfered = True
            await bank.set(80)
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 1")
        return {"seen": [sorted(answers)]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [["answer 1", "answer 2", "answer 3", "answer 4"]]
    assert len(model.calls) == 4


async def drift(bank: Bank, runs: list[None]) -> None:
    """Have the calling node's facts changed, the first time it gets here."""
    runs.append(None)
    await current_step().fetchval(BALANCE, 1)
    if len(runs) == 1:
        await bank.set(80)
    current_step().stage("UPDATE account SET balance = 1 WHERE id = 1")


async def test_a_request_that_failed_does_not_count(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The re-run finds the answer at its first request, which is where the first run had none."""
    model = FailingModel(failing={1})
    runs: list[None] = []

    async def node(state: Any) -> Any:
        answer = await model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).ainvoke("q")
        await drift(bank, runs)
        return {"seen": [answer.content]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert (result["seen"], len(runs), len(model.calls)) == (["answer 2"], 2, 2)


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
    runs: list[None] = []

    async def node(state: Any) -> Any:
        if not runs:
            asked = asyncio.create_task(model.ainvoke("q"))
            await model.waiting.wait()
            asked.cancel()
            await asyncio.wait({asked})
        answer = await model.ainvoke("q")
        await drift(bank, runs)
        return {"seen": [answer.content]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert (result["seen"], len(runs), len(model.calls)) == (["answer 2"], 2, 2)


async def test_a_failure_among_identical_requests_leaves_each_its_own_answer(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One of two fails and is made again while the other still waits."""
    gate = asyncio.Event()
    model = FailingModel(failing={2}, gates={1: gate})
    runs: list[None] = []

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
        await drift(bank, runs)
        return {"seen": [sorted(answers)]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [["answer 1", "answer 3", "answer 4"]]
    assert (len(runs), len(model.calls)) == (2, 4)


async def test_requests_to_models_that_know_no_messages_are_compared_by_their_text(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Also if it is JSON: what is the same to a parser is not to a model."""
    runs: list[None] = []
    model = FakeListLLM(responses=["one", "two"])

    async def node(state: Any) -> Any:
        answer = await model.ainvoke('{"balance": 1.0}' if not runs else '{"balance":1.0}')
        await drift(bank, runs)
        return {"seen": [answer]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == ["two"]


async def test_an_answer_survives_the_death_of_the_process(
    database_url: str, saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("once")).content]}

    async def die() -> None:
        failpoints.disarm("commit.before_commit")
        raise asyncio.CancelledError

    graph = chain(saver, node)

    async def die_at_the_second() -> None:
        failpoints.arm("commit.before_commit", arm_third)

    async def arm_third() -> None:
        failpoints.arm("commit.before_commit", die)

    failpoints.arm("commit.before_commit", die_at_the_second)  # input, then distribution, then the node's step
    with pytest.raises((asyncio.CancelledError, BaseException)):
        await graph.ainvoke({"seen": []}, thread, durability="sync")
    async with TransactionalSaver.from_conn_string(database_url) as restarted:
        flow = transactional(chain(restarted, node))
        assert (await flow.ainvoke(None, thread))["seen"] == ["answer 1"]
        assert model.calls == ["once"]
        report = await flow.areport(thread)
        assert [s.llm_paid for s in report.steps] == [1]


async def test_a_resumed_interrupt_shows_the_model_answers_the_human_saw(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        proposal = (await model.ainvoke("propose")).content
        return {"seen": [proposal, interrupt(proposal)]}

    flow = transactional(chain(saver, node))
    asked = await flow.ainvoke({"seen": []}, thread)
    assert asked["__interrupt__"][0].value == "answer 1"
    assert (await flow.ainvoke(Command(resume="fine"), thread))["seen"] == ["answer 1", "fine"]
    assert model.calls == ["propose"]


async def test_a_retry_policy_samples_anew(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        answer = (await model.ainvoke("try")).content
        if answer == "answer 1":
            raise ValueError("not good enough")
        return {"seen": [answer]}

    retry = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    result = await transactional(chain(saver, node, retry_policy=retry)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["answer 2"]


async def test_a_task_that_failed_forgets_its_answers(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        answer = (await model.ainvoke("try")).content
        if answer == "answer 1":
            raise ValueError("not good enough")
        return {"seen": [answer]}

    flow = transactional(chain(saver, node))
    with pytest.raises(ValueError, match="not good enough"):
        await flow.ainvoke({"seen": []}, thread)
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 2"]


async def test_a_cancelled_sibling_keeps_its_answers(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    paid = asyncio.Event()
    broken = True

    async def careful(state: Any) -> Any:
        answer = (await model.ainvoke("careful")).content
        paid.set()
        if broken:
            await asyncio.Event().wait()  # cancelled here, when the sibling fails
        return {"seen": [answer]}

    async def failing(state: Any) -> Any:
        await paid.wait()
        if broken:
            raise ValueError("broken")

    flow = transactional(fan(saver, careful, failing))
    with pytest.raises(ValueError, match="broken"):
        await flow.ainvoke({"seen": []}, thread)
    broken = False
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 1"]
    assert model.calls == ["careful"]


async def test_a_synchronous_call_in_a_synchronous_node_is_remembered_too(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    runs = 0

    def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        answer = model.invoke("sync").content
        current_step().stage("UPDATE account SET balance = 1 WHERE id = $1", 77 if runs == 1 else 1, expect_rows=1)
        return {"seen": [answer]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == ["answer 1"]
    assert (runs, model.calls) == (2, ["sync"])


async def test_the_cache_that_was_set_before_still_works(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel
) -> None:
    set_llm_cache(InMemoryCache())
    memo.install()
    memo.install()
    outside = (await model.ainvoke("outside")).content
    assert (await model.ainvoke("outside")).content == outside

    async def node(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("outside")).content]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [outside]
    assert model.calls == ["outside"]


async def test_two_flows_asking_the_same_pay_each_for_themselves(
    saver: TransactionalSaver, model: CountingModel
) -> None:
    async def node(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("same")).content]}

    graph = chain(saver, node)
    answers = [
        (await graph.ainvoke({"seen": []}, {"configurable": {"thread_id": name}}))["seen"] for name in ("a", "b")
    ]
    assert answers == [["answer 1"], ["answer 2"]]
