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


# -- the same question on other facts ----------------------------------------------------------------------------------


async def charges(state: Any) -> Any:
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)
    saw = interrupt({"balance": balance, "again": step.facts_changed})
    step.stage(LOG, f"saw {saw}, has {balance}")
    return {"seen": [saw]}


async def reads_and_calls(state: Any) -> Any:
    """What the question shows is a fact of the caller; the subgraph that asks has read nothing."""
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)

    async def inner(state: Any) -> Any:
        return {"n": interrupt({"balance": balance, "again": step.facts_changed})}

    saw = (await chain(None, inner).ainvoke({"n": 0}))["n"]
    step.stage(LOG, f"saw {saw}, has {balance}")
    return {"seen": [saw]}


@pytest.mark.parametrize("node", [charges, reads_and_calls])
async def test_an_answer_to_a_question_that_was_withdrawn_does_not_count_for_the_next(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig, node: Any
) -> None:
    """Two people have the first question on their screens, and both answer it by its name."""
    flow = transactional(chain(saver, node))
    names = []
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    for balance in (1, 100, 7):  # 100 again: the question is another one although it says the same
        names.append(question.id)
        await bank.set(balance)
        stale = Command(resume={question.id: question.value["balance"]})
        (question,) = (await flow.ainvoke(stale, thread))["__interrupt__"]
        assert question.value == {"balance": balance, "again": True}
        for name in names:
            (same,) = (await flow.ainvoke(Command(resume={name: 100}), thread))["__interrupt__"]
            assert (same.id, same.value) == (question.id, question.value)
    assert len({*names, question.id}) == 4
    assert await bank.journal() == []
    assert [each.id for each in (await flow.aget_state(thread)).interrupts] == [question.id]
    async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
        result = await transactional(chain(elsewhere, node)).ainvoke(Command(resume={question.id: 7}), thread)
    assert result["seen"] == [7]
    assert await bank.journal() == ["saw 7, has 7"]


async def test_a_question_whose_facts_stand_keeps_its_name_beside_one_that_is_asked_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = transactional(fan(saver, asks, charges))
    questions = {str(each.value): each for each in (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]}
    stands, moves = questions["may we charge 10?"], next(each for each in questions.values() if "balance" in each.value)
    await bank.set(1)
    again = (await flow.ainvoke(Command(resume={moves.id: 100}), thread))["__interrupt__"]
    names = {str(each.value): each.id for each in again}
    assert names["may we charge 10?"] == stands.id
    assert moves.id not in names.values()
    del names["may we charge 10?"]
    (asked_again,) = names.values()
    result = await flow.ainvoke(Command(resume={stands.id: "yes", asked_again: 1, moves.id: 100}), thread)
    assert sorted(map(str, result["seen"])) == ["1", "asks: yes"]
    assert await bank.journal() == ["saw 1, has 1"]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_every_mode_of_a_stream_has_the_same_name_for_a_question(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, version: str
) -> None:
    flow = transactional(chain(saver, charges))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    await bank.set(1)
    modes: Any = ["updates", "values", "tasks", "debug", "checkpoints"]
    chunks = [
        chunk
        async for chunk in flow.astream(
            Command(resume={question.id: 100}), thread, stream_mode=modes, version=version, subgraphs=True
        )
    ]
    (open_now,) = (await flow.aget_state(thread)).interrupts
    assert open_now.id != question.id
    said = [chunk if version == "v1" else (chunk["ns"], chunk["type"], chunk["data"]) for chunk in chunks]
    events = {mode: [data for _, each, data in said if each == mode] for mode in modes}
    results = [data["payload"] for data in events["debug"] if data["type"] == "task_result"] + events["tasks"]
    asked = [each["id"] for data in results for each in data.get("interrupts", ())]
    asked += [each.id for data in events["updates"] for each in data.get("__interrupt__", ())]
    assert asked == [open_now.id] * 3


async def test_a_command_loses_only_the_answers_that_are_too_late(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = transactional(chain(saver, charges))
    (question,) = (await flow.ainvoke({"seen": []}, thread))["__interrupt__"]
    await bank.set(1)
    await flow.ainvoke(Command(resume={question.id: 100}), thread)
    result = await flow.ainvoke(Command(resume={question.id: 100}, update={"n": 5}), thread)
    assert result["n"] == 5
    assert result["__interrupt__"][0].value == {"balance": 1, "again": True}
    assert await bank.journal() == []


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("facts", [False, True])
async def test_an_answer_addressed_to_a_subgraphs_checkpoint_counts_unless_it_rests_on_facts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, facts: bool, wrap: bool
) -> None:
    """LangGraph answers in a fork of that checkpoint, where what was read before the question is not known."""

    async def look(state: Any) -> Any:
        return {"seen": ["looked"]}

    async def ask(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1) if facts else 0
        return {"seen": [f"{interrupt(f'may we charge {balance}?')} at {balance}"]}

    builder = StateGraph(State).add_node("inside", chain(True, look, ask)).add_edge(START, "inside")
    graph = builder.compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    await flow.ainvoke({"seen": []}, thread)
    inside = (await flow.aget_state(thread, subgraphs=True)).tasks[0].state.config
    (_question,) = (await flow.ainvoke(None, inside))["__interrupt__"]
    await bank.set(55)
    try:
        result = await flow.ainvoke(Command(resume="yes"), inside)
    except StepConflict:
        assert facts
        assert not wrap
        result = await flow.ainvoke(None, thread)
    if facts:
        assert [each.value for each in result["__interrupt__"]] == ["may we charge 55?"]
        result = await flow.ainvoke(Command(resume="yes"), thread)
    assert result["seen"][-1] == ("yes at 55" if facts else "yes at 0")
