"""An answer counts for the question it was given to, or for none: whichever task LangGraph hands it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import State, chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def answer_to(question: Any, *, by_id: bool) -> Command[Any]:
    return Command(resume={question.id: "yes"} if by_id else "yes")


async def asks(state: Any) -> Any:
    return {"seen": [f"asks: {interrupt('may we charge 10?')}"]}


async def asks_if_it_has_moved(state: Any) -> Any:
    step = current_step()
    if await step.fetchval(BALANCE, 1) == 100:
        return {"seen": ["nothing to ask"]}
    answer = interrupt("may we charge 1,000,000?")
    step.stage(LOG, f"charged on {answer}")
    return {"seen": [f"charged on {answer}"]}


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_sibling_that_comes_to_ask_gets_no_answer_of_another(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, by_id: bool
) -> None:
    flow = transactional(fan(saver, asks, asks_if_it_has_moved))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    await bank.set(1)
    again = (await flow.ainvoke(answer_to(question, by_id=by_id), thread))["__interrupt__"]
    assert "may we charge 1,000,000?" in [each.value for each in again]
    assert await bank.journal() == []
    result = await flow.ainvoke(Command(resume={each.id: f"yes to {each.value}" for each in again}), thread)
    assert "charged on yes to may we charge 1,000,000?" in result["seen"]
    assert await bank.journal() == ["charged on yes to may we charge 1,000,000?"]


async def test_plain_langgraph_is_told_so_and_asks(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    graph = fan(saver, asks, asks_if_it_has_moved)
    await graph.ainvoke({"seen": []}, thread)
    await bank.set(1)
    given: Any = Command(resume="yes")
    conflicts: list[StepConflict] = []
    while True:
        try:
            result = await graph.ainvoke(given, thread)
        except StepConflict as conflict:
            conflicts.append(conflict)
            given = None
        else:
            break
    assert {name for each in conflicts for name in each.tasks} == {"asks_if_it_has_moved"}
    assert "may we charge 1,000,000?" in [each.value for each in result["__interrupt__"]]
    assert await bank.journal() == []


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
async def test_a_later_question_gets_no_answer_of_an_earlier_one(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, by_id: bool, nested: bool
) -> None:
    """Between the two a step conflicts, so the run enters the thread again by itself, and the answer with it."""
    moved: list[int] = []

    async def first(state: Any) -> Any:
        return {"seen": [interrupt("first?")]}

    async def works(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        if not moved:
            moved.append(1)
            await bank.set(1)
        return {}

    async def second(state: Any) -> Any:
        answer = interrupt("second?")
        current_step().stage(LOG, answer)
        return {"seen": [answer]}

    builder = StateGraph(State).add_node("inner", chain(None, first, works, second)).add_edge(START, "inner")
    graph = builder.compile(checkpointer=saver) if nested else chain(saver, first, works, second)
    flow = transactional(graph)
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    (question,) = (await flow.ainvoke(answer_to(question, by_id=by_id), thread))["__interrupt__"]
    assert question.value == "second?"
    assert await bank.journal() == []
    await flow.ainvoke(answer_to(question, by_id=by_id), thread)
    assert await bank.journal() == ["yes"]


@pytest.mark.parametrize("hold_idle", [0, "forever"])
async def test_a_question_that_was_withdrawn_while_a_sibling_ran_is_not_shown(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    asked: list[int] = []

    async def asks_about_the_balance(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        asked.append(balance)
        answer = interrupt(balance)
        step.stage(LOG, f"{answer} on {balance}")
        return {}

    async def thinks(state: Any) -> Any:
        step = current_step()
        while not asked:
            await step.fetchval("SELECT 1")
        if len(asked) == 1:
            await bank.set(1)
        await step.fetchval(BALANCE, 2)
        return {}

    flow = transactional(fan(saver, asks_about_the_balance, thinks))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    if question.value == 100:  # held for ever, the snapshot is still that of the question: the answer finds out
        (question,) = (await flow.ainvoke(Command(resume="yes"), thread))["__interrupt__"]
    assert question.value == 1
    await flow.ainvoke(Command(resume="yes"), thread)
    assert await bank.journal() == ["yes on 1"]


async def test_the_answers_to_several_questions_of_one_node_are_its_own(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def asks_twice(state: Any) -> Any:
        return {"seen": [interrupt("one?"), interrupt("two?")]}

    flow = transactional(chain(saver, asks_twice))
    await flow.ainvoke({"seen": []}, thread)
    (question,) = (await flow.ainvoke(Command(resume="1"), thread))["__interrupt__"]
    assert question.value == "two?"
    assert (await flow.ainvoke(Command(resume="2"), thread))["seen"] == ["1", "2"]
