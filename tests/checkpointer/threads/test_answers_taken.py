"""An answer that a task has taken is there for nothing asked later, however often the run enters anew by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


@pytest.mark.parametrize("hold_idle", [0, 0.25])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("second", ["another", "first?"])
@pytest.mark.parametrize(("by_name", "sibling_asks"), [(True, True), (True, False), (False, False)])
async def test_a_sibling_that_runs_again_gives_no_answer_twice(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    second: str,
    *,
    by_name: bool,
    sibling_asks: bool,
    nested: bool,
) -> None:
    async def asks(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        answers = [interrupt("first?"), interrupt(second)]
        current_step().stage(LOG, " ".join(answers))
        return {"seen": answers}

    async def beside(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 2)
        return {"bag": {"beside": interrupt(balance) if sibling_asks else balance}}

    async def caller(state: Any) -> Any:
        return {"seen": (await fan(None, asks, beside).ainvoke({"seen": []}))["seen"]}

    flow = transactional(chain(saver, caller) if nested else fan(saver, asks, beside))
    out = await flow.ainvoke({"seen": []}, thread)
    names = {question.value: question.id for question in out["__interrupt__"]}
    await bank.set(55, 2)  # what the sibling has read
    by_names = {names["first?"]: "one", **({names[100]: "stale"} if sibling_asks else {})}
    out = await flow.ainvoke(Command(resume=by_names if by_name else "one"), thread)
    assert {question.value for question in out["__interrupt__"]} == {second, *([55] if sibling_asks else [])}
    assert await bank.journal() == []
    right = {second: "two", 55: "fresh"}
    while questions := out.get("__interrupt__"):
        out = await flow.ainvoke(Command(resume={each.id: right[each.value] for each in questions}), thread)
    assert await bank.journal() == ["one two"]


async def test_an_answer_to_a_finished_task_whose_facts_move_counts_no_more(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Its sibling is still asking; the task is asked again, under another name, and keeps nothing of the answer."""

    def asks(account: int) -> Any:
        async def node(state: Any) -> Any:
            balance = await current_step().fetchval(BALANCE, account)
            answer = interrupt(f"{account} {balance}")
            current_step().stage(LOG, f"{account} {balance} {answer}")
            return {}

        node.__name__ = f"node{account}"
        return node

    flow = transactional(fan(saver, asks(1), asks(2)))
    out = await flow.ainvoke({"seen": []}, thread)
    names = {question.value: question.id for question in out["__interrupt__"]}
    await flow.ainvoke(Command(resume={names["2 100"]: "stale"}), thread)
    await bank.set(55, 2)
    out = await flow.ainvoke(Command(resume={names["1 100"]: "right"}), thread)
    (question,) = out["__interrupt__"]
    assert question.value == "2 55"
    assert question.id != names["2 100"]
    await flow.ainvoke(Command(resume={names["2 100"]: "stale"}), thread)
    assert await bank.journal() == []
    await flow.ainvoke(Command(resume={question.id: "fresh"}), thread)
    assert await bank.journal() == ["1 100 right", "2 55 fresh"]


async def test_an_answer_that_was_taken_at_an_older_checkpoint_is_of_its_facts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(LOG, f"{balance} {interrupt(balance)}")
        return {}

    flow = transactional(chain(saver, node))
    await flow.ainvoke({"seen": []}, thread)
    asked_at = (await flow.aget_state(thread)).config
    await flow.ainvoke(Command(resume="on 100"), thread)
    await bank.set(50)
    out = await flow.ainvoke(Command(resume="on 100, too"), asked_at)
    assert [question.value for question in out["__interrupt__"]] == [50]
    assert await bank.journal() == ["100 on 100"]
