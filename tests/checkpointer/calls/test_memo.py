"""An LLM call is paid once per super-step: across conflicts, crashes and interrupts, but not across errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.calls import memo
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import DatabaseUnavailable, StaleRun
from tests.support.graphs import chain, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from tests.checkpointer.calls.models import CountingModel
    from tests.support.bank import Bank


pytestmark = pytest.mark.usefixtures("own_cache")


async def test_a_conflict_pays_only_for_requests_that_changed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: CountingModel
) -> None:
    race = Race(bank, 80)

    async def node(state: Any) -> Any:
        greeting = await model.ainvoke("hello")
        balance = await race.read()
        judged = await model.ainvoke(f"balance {balance}")
        current_step().stage("UPDATE account SET note = $1 WHERE id = 1", judged.content, expect_rows=1)
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


async def stream(question: str, said: list[str]) -> AsyncIterator[str]:
    """A stream in two chunks that goes through the cache as a routed model's does."""
    cache = get_llm_cache()
    assert isinstance(cache, BaseCache)
    assert getattr(cache, "memoises_streams", False)
    if found := await cache.alookup(question, "streaming"):
        yield found[0].text
        return
    said.append(question)
    yield f"{len(said)}"
    await cache.aupdate(question, "streaming", [ChatGeneration(message=AIMessage(f"{len(said)}!"))])
    yield "!"


async def test_a_stream_is_paid_once(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    said: list[str] = []
    race = Race(bank, 80)

    async def decide(state: Any) -> Any:
        text = "".join([chunk async for chunk in stream("well?", said)])
        await race.decide()
        return {"seen": [text]}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["1!"]
    assert said == ["well?"]
    assert [(s.attempts, s.llm_paid, s.llm_reused) for s in (await flow.areport(thread)).steps] == [(2, 1, 1)]


@pytest.mark.parametrize("away", [DatabaseUnavailable("away"), StaleRun("taken over")])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_that_the_database_was_away_is_no_failure_of_the_node(
    saver: TransactionalSaver, thread: RunnableConfig, model: CountingModel, away: Exception, *, wrapped: bool
) -> None:
    """Whoever goes on has what was paid; also if the node makes an error of its own of it."""
    here = True

    async def thinks(state: Any) -> Any:
        said = (await model.ainvoke("well?")).content
        if here and wrapped:
            raise KeyError("what a node makes of it") from away
        if here:
            raise away
        return {"seen": [said]}

    flow = transactional(chain(saver, thinks))
    with pytest.raises((KeyError, DatabaseUnavailable, StaleRun)):
        await flow.ainvoke({"seen": []}, thread)
    here = False
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 1"]
    assert model.calls == ["well?"]
