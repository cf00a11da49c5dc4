"""Child runs: they exist exactly when the decision does, and their end is told once, whoever dies meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep.checkpointer import asend
from superstep.runtime.faults import StepConflict
from superstep.runtime.flow.transactional import transactional
from tests.runtime.workers import families
from tests.runtime.workers.conftest import ended, until, working

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver

FAMILIES = families.__name__


@pytest.fixture(autouse=True)
def fresh() -> None:
    families.reset()


async def seen(saver: TransactionalSaver, thread: str, name: str = "parent") -> Any:
    flow = transactional(getattr(families, name).copy(update={"checkpointer": saver}))
    return (await flow.aget_state({"configurable": {"thread_id": thread}})).values.get("seen")


async def completed(saver: TransactionalSaver, thread: str) -> None:
    async def is_completed() -> bool:
        found = await saver.athread(thread)
        return found is not None and found.status == "completed"

    await until(is_completed)


async def test_a_parent_goes_on_with_what_its_child_has_put_out(saver: TransactionalSaver) -> None:
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await completed(saver, "p")
        runs = await ended(saver, 3)
    assert await seen(saver, "p") == [["did 7"]]
    assert [(run.graph, run.state, run.parent, run.answer) for run in runs] == [
        (f"{FAMILIES}:parent", "interrupted", None, None),
        (f"{FAMILIES}:child", "completed", "p", None),
        (f"{FAMILIES}:parent", "completed", None, "child"),
    ]
    assert families.did == ["spawn", "gather", "work 7", "gather"] or families.did.count("spawn") == 1


async def test_twenty_children_are_queued_by_one_commit_and_awaited_one_by_one(saver: TransactionalSaver) -> None:
    families.meet["many"] = 20
    async with working(saver, concurrency=8):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await completed(saver, "p")
    assert await seen(saver, "p") == [[f"did {n}"] for n in range(7, 27)]
    assert families.did.count("spawn") == 1
    assert sorted(each for each in families.did if each.startswith("work")) == sorted(f"work {n}" for n in range(7, 27))
    children = [run for run in await saver.fleet.runs() if run.parent == "p"]
    assert len({run.thread_id for run in children}) == len({run.run_id for run in children}) == 20


async def test_children_of_children(saver: TransactionalSaver) -> None:
    families.meet["graph"] = f"{FAMILIES}:middle"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await completed(saver, "p")
    assert await seen(saver, "p") == [["middle has", "did 8"]]


async def test_a_child_that_fails_is_an_error_with_its_thread_and_its_reason(saver: TransactionalSaver) -> None:
    families.meet["graph"] = f"{FAMILIES}:failing"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await completed(saver, "p")
    ((name, child, reason),) = await seen(saver, "p")
    (run,) = [run for run in await saver.fleet.runs() if run.parent == "p"]
    assert (name, child, reason) == ("ChildFailed", run.thread_id, "ValueError: no such account")


async def test_a_child_of_an_unknown_graph_waits_and_is_listed(saver: TransactionalSaver) -> None:
    families.meet["graph"] = "no.such_graph"
    said: list[str] = []
    async with working(saver, said):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await until(lambda: any("no.such_graph" in each for each in said))
    child, parent = await saver.fleet.runs()
    assert (child.graph, child.state, child.has_worker) == ("no.such_graph", "queued", False)
    assert parent.state == "interrupted"


async def test_a_child_that_asks_leaves_its_parent_waiting_until_it_is_answered_by_whomever(
    saver: TransactionalSaver,
) -> None:
    families.meet.update(graph=f"{FAMILIES}:asking", many=2)
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        runs = await ended(saver, 3)
        assert [run.state for run in runs] == ["interrupted"] * 3
        by_hand, by_worker = (run.thread_id for run in runs[1:])
        flow = transactional(families.asking.copy(update={"checkpointer": saver}), name=runs[1].graph)
        await flow.ainvoke(Command(resume="yes"), {"configurable": {"thread_id": by_hand}})
        async with saver.transaction() as tx:
            await asend(tx, by_worker, "no")
        await completed(saver, "p")
    assert await seen(saver, "p") == [["yes"], ["no"]]


async def test_a_child_whose_thread_is_deleted(saver: TransactionalSaver) -> None:
    families.meet["graph"] = f"{FAMILIES}:asking"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        _, child = await ended(saver, 2)
        await saver.adelete_thread(child.thread_id)
        await completed(saver, "p")
    ((name, thread, reason),) = await seen(saver, "p")
    assert (name, thread, reason) == ("ChildFailed", child.thread_id, "its thread was deleted")


async def test_a_parent_that_is_deleted_is_not_missed(saver: TransactionalSaver) -> None:
    families.meet["graph"] = f"{FAMILIES}:holding"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await families.meet["here"].wait()
        await until(lambda: _is(saver, "p", "interrupted"))
        await saver.adelete_thread("p")
        families.meet["go here"].set()
        (child,) = await ended(saver, 1)
    assert child.state == "completed"
    assert await seen(saver, child.thread_id, "holding") == ["did 7"]


async def _is(saver: TransactionalSaver, thread: str, status: str) -> bool:
    found = await saver.athread(thread)
    return found is not None and found.status == status


async def test_a_parent_that_is_run_by_a_program_goes_on_by_a_worker(saver: TransactionalSaver) -> None:
    flow = transactional(families.parent.copy(update={"checkpointer": saver}), name=f"{FAMILIES}:parent")
    config: Any = {"configurable": {"thread_id": "p"}}
    result = await flow.ainvoke({"n": 1}, config)
    (asked,) = result["__interrupt__"]
    assert asked.value == {"superstep:child": result["bag"]["children"][0], "graph": families.CHILD}
    async with working(saver):
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 7"]]


async def test_a_parent_without_a_name_goes_on_with_whoever_runs_it(saver: TransactionalSaver) -> None:
    flow = transactional(families.parent.copy(update={"checkpointer": saver}))
    config: Any = {"configurable": {"thread_id": "p"}}
    assert "__interrupt__" in await flow.ainvoke({"n": 1}, config)
    async with working(saver):
        await ended(saver)
        assert (await flow.ainvoke(None, config))["seen"] == [["did 7"]]


async def test_human_answers_and_children_do_not_get_mixed_up(saver: TransactionalSaver) -> None:
    """A node that asks before and after it waits: each answer is for the question that was open."""
    families.meet["graph"] = f"{FAMILIES}:holding"
    flow = transactional(families.mixed_too.copy(update={"checkpointer": saver}), name=f"{FAMILIES}:mixed_too")
    config: Any = {"configurable": {"thread_id": "p"}}
    async with working(saver):
        await flow.ainvoke({"n": 1}, config)
        (first,) = (await flow.ainvoke(Command(resume="one"), config))["__interrupt__"]
        assert "superstep:child" in first.value
        # An answer that nobody has asked for, while the child runs: it counts for none, least of all for the next one.
        (again,) = (await flow.ainvoke(Command(resume="stray"), config))["__interrupt__"]
        assert "superstep:child" in again.value
        families.meet["go here"].set()
        await until(lambda: _asks(flow, config, "really?"))
        await until(lambda: _is(saver, "p", "interrupted"))
        assert (await flow.ainvoke(Command(resume="two"), config))["seen"] == ["one", "did 7", "two"]


async def test_a_stray_answer_to_a_plain_graph_is_refused_when_a_question_takes_it(saver: TransactionalSaver) -> None:
    families.meet["graph"] = f"{FAMILIES}:holding"
    plain = families.mixed_too.copy(update={"checkpointer": saver})
    config: Any = {"configurable": {"thread_id": "p"}}
    async with working(saver):
        await plain.ainvoke({"n": 1}, config)
        await plain.ainvoke(Command(resume="one"), config)
        await plain.ainvoke(Command(resume="stray"), config)
        families.meet["go here"].set()
        await ended(saver)
        with pytest.raises(StepConflict):  # "really?" was not asked when it was given
            await plain.ainvoke(None, config)


async def _asks(flow: Any, config: Any, what: str) -> bool:
    return [each.value for each in (await flow.aget_state(config)).interrupts] == [what]


async def test_synchronous_nodes(saver: TransactionalSaver) -> None:
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:blocking", {"n": 1}, thread="p")
        await completed(saver, "p")
    assert await seen(saver, "p", "blocking") == [["did 7"]]


async def test_a_subgraph_that_waits(saver: TransactionalSaver) -> None:
    families.meet["many"] = 2
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:nested", {"n": 1}, thread="p")
        await completed(saver, "p")
    assert await seen(saver, "p", "nested") == [["did 7"], ["did 8"]]
    assert families.did.count("spawn") == 1


async def test_a_named_thread_is_the_childs(saver: TransactionalSaver) -> None:
    families.meet["thread"] = "kid"
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:parent", {"n": 1}, thread="p")
        await completed(saver, "p")
    assert await seen(saver, "p") == [["did 7"]]
    assert await seen(saver, "kid", "child") == ["did 7"]
