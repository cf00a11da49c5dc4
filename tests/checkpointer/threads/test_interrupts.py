"""An answer belongs to its question: a human's answer counts for the facts that the question showed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from superstep.runtime.flow.transactional import Settings
from tests.support.bank import BALANCE
from tests.support.graphs import State, chain, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


def approval(account: int = 1) -> Any:
    async def approve(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, account)
        answer = interrupt({"account": account, "balance": balance, "again": step.facts_changed})
        if answer == "yes":
            step.stage("UPDATE account SET balance = $1 WHERE id = $2", balance - 10, account, expect_rows=1)
        return {"seen": [[account, balance, answer]]}

    approve.__name__ = f"approve{account}"
    return approve


async def test_an_answer_on_unmoved_facts_counts(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    flow = transactional(chain(saver, approval()))
    await flow.ainvoke({"seen": []}, thread)
    report = await flow.areport(thread)
    assert report.status == "interrupted"
    assert [i["value"] for i in report.interrupts] == [{"account": 1, "balance": 100, "again": False}]
    assert "facts_changed" not in report.interrupts[0]
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == [[1, 100, "yes"]]
    assert await bank.balance() == 90
    assert (await flow.areport(thread)).status == "completed"


async def test_an_answer_on_moved_facts_is_not_consumed_and_the_question_comes_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = transactional(chain(saver, approval()))
    await flow.ainvoke({"seen": []}, thread)
    await bank.set(500)
    again = await flow.ainvoke(Command(resume="yes"), thread)
    assert again["__interrupt__"][0].value == {"account": 1, "balance": 500, "again": True}
    assert await bank.balance() == 500
    report = await flow.areport(thread)
    assert (report.status, report.interrupts[0]["facts_changed"]) == ("interrupted", True)
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == [[1, 500, "yes"]]
    assert await bank.balance() == 490


async def test_the_same_in_another_process_with_plain_langgraph(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await chain(saver, approval()).ainvoke({"seen": []}, thread)
    await bank.set(500)
    async with TransactionalSaver.from_conn_string(database_url) as other:
        graph = chain(other, approval())
        with pytest.raises(StepConflict):
            await graph.ainvoke(Command(resume="yes"), thread)
        asked = await graph.ainvoke(None, thread)
        assert asked["__interrupt__"][0].value["balance"] == 500
        assert (await graph.ainvoke(Command(resume="no"), thread))["seen"] == [[1, 500, "no"]]
    assert await bank.balance() == 500


async def test_stale_answers_can_be_accepted(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    flow = transactional(chain(saver, approval()), settings=Settings(on_stale_answer="accept"))
    await flow.ainvoke({"seen": []}, thread)
    await bank.set(500)
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == [[1, 500, "yes"]]
    assert await bank.balance() == 490


async def test_of_two_answers_only_the_one_on_moved_facts_is_asked_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = transactional(fan(saver, approval(1), approval(2)))
    asked = await flow.ainvoke({"seen": []}, thread)
    questions = {i.value["account"]: i.id for i in asked["__interrupt__"]}
    await bank.set(500, account=2)
    again = await flow.ainvoke(Command(resume=dict.fromkeys(questions.values(), "yes")), thread)
    assert [i.value for i in again["__interrupt__"]] == [{"account": 2, "balance": 500, "again": True}]
    result = await flow.ainvoke(Command(resume={again["__interrupt__"][0].id: "no"}), thread)
    assert result["seen"] == [[1, 100, "yes"], [2, 500, "no"]]
    assert [await bank.balance(1), await bank.balance(2)] == [90, 500]


async def test_an_answer_is_dropped_when_the_facts_move_while_the_answered_node_runs(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 700)

    async def approve(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        answer = interrupt(balance)
        await race.move()
        step.stage("UPDATE account SET balance = $1 WHERE id = 1", balance - 10, expect_rows=1)
        return {"seen": [[balance, answer]]}

    flow = transactional(chain(saver, approve))
    await flow.ainvoke({"seen": []}, thread)
    again = await flow.ainvoke(Command(resume="yes"), thread)
    assert [i.value for i in again["__interrupt__"]] == [700]
    assert await bank.balance() == 700
    assert (await flow.ainvoke(Command(resume="ok"), thread))["seen"] == [[700, "ok"]]


async def test_two_questions_in_one_node(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        first = interrupt({"q": 1, "balance": await step.fetchval(BALANCE, 1)})
        second = interrupt({"q": 2, "balance": await step.fetchval(BALANCE, 2)})
        return {"seen": [first, second]}

    flow = transactional(chain(saver, node))
    await flow.ainvoke({"seen": []}, thread)
    second = await flow.ainvoke(Command(resume="a"), thread)
    assert second["__interrupt__"][0].value == {"q": 2, "balance": 100}
    assert (await flow.ainvoke(Command(resume="b"), thread))["seen"] == ["a", "b"]


async def test_a_finished_sibling_of_a_question_commits_only_with_the_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs = 0

    async def sibling(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        step.stage("UPDATE account SET balance = $1 WHERE id = 3", await step.fetchval(BALANCE, 3) + runs)
        return {"seen": ["sibling"]}

    flow = transactional(fan(saver, approval(1), sibling))
    await flow.ainvoke({"seen": []}, thread)
    assert await bank.balance(3) == 100
    await bank.set(200, account=3)
    result = await flow.ainvoke(Command(resume="yes"), thread)
    assert result["seen"] == [[1, 100, "yes"], "sibling"]
    assert (runs, await bank.balance(3), await bank.balance(1)) == (2, 202, 90)


async def test_a_stale_answer_to_a_subgraph_is_withdrawn_too(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    inner = chain(None, approval())  # inherits the checkpointer
    outer = StateGraph(State)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    flow = transactional(outer.compile(checkpointer=saver))
    await flow.ainvoke({"seen": []}, thread)
    await bank.set(500)
    again = await flow.ainvoke(Command(resume="yes"), thread)
    assert [i.value for i in again["__interrupt__"]] == [{"account": 1, "balance": 500, "again": True}]
    assert await bank.balance() == 500
    assert (await flow.ainvoke(Command(resume="yes"), thread))["seen"] == [[1, 500, "yes"]]
    assert await bank.balance() == 490
