"""Updates of shared values: merged in the commit, each once, whoever else commits."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.shared import declared
from superstep.reducers import swap
from superstep.runtime.faults import SharedUnknown, StagedWriteFailed, StepConflict, UpdateInvalid, WriteRefused
from tests.checkpointer.commit.test_shared import Together, together
from tests.checkpointer.saver.test_encryption import aes
from tests.checkpointer.shared.plans import Plan, adder, run_all
from tests.support.bank import LOG
from tests.support.graphs import AGAIN, State, chain, config_of, fan, steps_of
from tests.support.internals import one_at_a_time

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

__all__ = ["together"]

FLOWS = 100


async def history(saver: TransactionalSaver, name: str = "test.plan", key: str = "p") -> list[Any]:
    """All of it, page by page."""
    found: list[Any] = []
    while page := await saver.ashared_history(name, key, after=found[-1].version if found else 0, limit=70):
        found += page
    return found


@pytest.mark.parametrize("sharing", [False, True])
async def test_two_hundred_flows_add_to_one_plan(saver: TransactionalSaver, database_url: str, sharing: bool) -> None:
    """Through two savers, as two processes would."""
    ran: Counter[str] = Counter()
    async with TransactionalSaver.from_conn_string(database_url) as other:
        if sharing:
            one_at_a_time(saver)
            one_at_a_time(other)
        node = adder(ran)
        await asyncio.gather(
            run_all(saver, node, range(FLOWS), "a"), run_all(other, node, range(FLOWS, 2 * FLOWS), "b")
        )
    assert len(ran) == 2 * FLOWS
    assert set(ran.values()) == {1}
    plan = await saver.ashared("test.plan", "p")
    assert isinstance(plan, Plan)
    assert sorted(item.id for item in plan.steps) == list(range(2 * FLOWS))
    updates = await history(saver)
    assert [update.version for update in updates] == list(range(1, 2 * FLOWS + 1))
    assert [update.update["steps"][0]["id"] for update in updates] == [item.id for item in plan.steps]
    assert {update.thread_id for update in updates} == set(ran)
    assert {(update.node, update.resolved) for update in updates} == {("add", 0)}


# -- one super-step ----------------------------------------------------------------------------------------------------


def reducing(name: str, *updates: Any, to: str = "test.plan", also: Any = None) -> Any:
    """A node that reduces these updates, and does something else before."""

    async def node(state: Any) -> Any:
        if also is not None:
            await also(name)
        for update in updates:
            current_step().reduce(to, "p", update)
        return {"seen": [name]}

    node.__name__ = name
    return node


async def test_updates_are_merged_in_the_order_of_tasks_then_calls(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    """Whoever ends first: the tasks end in the opposite order."""
    ended: list[str] = []
    gates = {name: asyncio.Event() for name in "abc"}
    gates["c"].set()

    async def after_the_next(name: str) -> None:
        await gates[name].wait()
        ended.append(name)
        if name > "a":
            gates[chr(ord(name) - 1)].set()

    nodes = [
        reducing(name, *({"steps": {"id": 10 * at + n, "note": name}} for n in (2, 1)), also=after_the_next)
        for at, name in enumerate("abc")
    ]
    await fan(saver, *nodes).ainvoke({"seen": []}, thread)
    assert ended == ["c", "b", "a"]
    plan = await saver.ashared("test.plan", "p")
    assert [item.id for item in plan.steps] == [2, 1, 12, 11, 22, 21]
    updates = await history(saver)
    assert [(update.version, update.node) for update in updates] == list(enumerate("aabbcc", 1))
    assert {(u.thread_id, u.checkpoint_ns) for u in updates} == {(thread["configurable"]["thread_id"], "")}
    assert len({u.checkpoint_id for u in updates}) == 1
    assert len({u.task_id for u in updates}) == 3


async def test_what_met_in_the_super_step_is_counted(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    nodes = [reducing(name, word, to="test.word") for name, word in zip("abc", ["x", "y", "y"], strict=True)]
    graph = fan(saver, *nodes)
    await graph.ainvoke({"seen": []}, thread)
    assert await saver.ashared("test.word", "p") == "y"
    assert [update.resolved for update in await history(saver, "test.word")] == [0, 1, 0]
    assert (await steps_of(saver, thread))[-1].resolved == 1
    await chain(saver, reducing("d", "z", to="test.word")).ainvoke({}, thread)  # what was there before is no conflict
    (step,) = (await steps_of(saver, thread))[-1:]
    assert (step.resolved, step.writes, step.reads) == (0, 1, 0)


async def test_a_second_write_is_rejected_by_the_name_of_its_task(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank
) -> None:
    ran: Counter[str] = Counter()
    words = {"a": "x", "b": "y", "c": "x"}

    async def count(name: str) -> None:
        ran[name] += 1
        current_step().stage(LOG, name)

    def node(name: str) -> Any:
        async def node(state: Any) -> Any:
            await count(name)
            current_step().reduce("test.once", "p", words[name])
            return {}

        node.__name__ = name
        return node

    graph = fan(saver, *map(node, words))
    with pytest.raises(StagedWriteFailed, match=r"'b' wrote to shared state \('test.once'\)") as caught:
        await graph.ainvoke({"seen": []}, thread)
    assert isinstance(caught.value.__cause__, WriteRefused)
    assert (caught.value.task, caught.value.sql, caught.value.sqlstate) == ("b", "reduce('test.once')", None)
    assert (await history(saver, "test.once"), await bank.journal()) == ([], [])
    words["b"] = "x"
    await graph.ainvoke(None, thread)
    assert ran == {"a": 1, "b": 2, "c": 1}
    assert [update.update for update in await history(saver, "test.once")] == ["x"] * 3
    assert sorted(await bank.journal()) == ["a", "b", "c"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_task_that_reads_what_another_reduces_runs_on_top_of_it(
    database_url: str, thread: RunnableConfig, encrypted: bool
) -> None:
    """In the super-step, invisible to all others, and once."""
    seen: list[Any] = []

    async def look(state: Any) -> Any:
        plan = await current_step().shared("test.plan", "p")
        seen.append([item.id for item in plan.steps])
        current_step().reduce("test.plan", "p", {"seen": len(plan.steps)})
        return {}

    first = reducing("a", {"steps": {"id": 1}}, {"steps": {"id": 2}})
    async with TransactionalSaver.from_conn_string(database_url, serde=aes() if encrypted else None) as saver:
        await transactional(fan(saver, first, look)).ainvoke({"seen": []}, thread)
        plan = await saver.ashared("test.plan", "p")
        assert seen == [[], [1, 2]]
        assert ([item.id for item in plan.steps], plan.seen) == ([1, 2], 2)
        assert [update.version for update in await history(saver)] == [1, 2, 3]
        (step,) = [step for step in await steps_of(saver, thread) if step.nodes]
        assert (step.attempts, step.drifts) == (2, 1)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_subgraph_of_such_a_task_rests_on_the_same(
    database_url: str, thread: RunnableConfig, encrypted: bool
) -> None:
    """Its own super-step applies the sibling's update once more, to validate what the task has read."""
    seen: list[Any] = []

    async def inside(state: Any) -> Any:
        return {"n": await current_step().shared("test.total", "other")}

    inner = chain(None, inside)

    async def look(state: Any) -> Any:
        seen.append(await current_step().shared("test.word", "p"))
        await inner.ainvoke({"n": 0})
        return {}

    async with TransactionalSaver.from_conn_string(database_url, serde=aes() if encrypted else None) as saver:
        await transactional(fan(saver, reducing("a", "x", to="test.word"), look)).ainvoke({"seen": []}, thread)
        assert seen == [None, "x"]


# -- several flows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "update", "runs"),
    [("test.plan", {"steps": {"id": 7}}, 2), ("test.plan", {"seen": 0}, 1), ("test.plan", {"steps": {"id": 1}}, 1)],
)
@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("hold_idle", [0])
async def test_a_read_drifts_when_the_value_has_changed(
    saver: TransactionalSaver, thread: RunnableConfig, name: str, update: Any, runs: int, validate: bool
) -> None:
    """Not by an update that leaves it as it is."""
    await saver.areduce(name, "p", {"steps": {"id": 1}, "seen": 3})
    seen: list[Any] = []

    async def look(state: Any) -> Any:
        seen.append(await current_step().shared(name, "p", validate=validate))
        if len(seen) == 1:
            await saver.areduce(name, "p", update)
        return {}

    await transactional(chain(saver, look)).ainvoke({}, thread)
    assert len(seen) == (runs if validate else 1)
    assert len(await history(saver)) == 2


async def test_a_swap_that_was_refused_is_decided_again(saver: TransactionalSaver) -> None:
    """Two that want the free slot, and look before: one has it, the other one sees that."""
    ran: Counter[str] = Counter()
    both = asyncio.Barrier(2)

    async def take(state: Any) -> Any:
        step = current_step()
        ran[step.thread_id] += 1
        free = await step.shared("test.slot", "p", validate=False)
        if ran[step.thread_id] == 1:
            await both.wait()
        if free is None:
            step.reduce("test.slot", "p", swap(None, step.thread_id))
        return {"seen": [free]}

    ends = await run_all(saver, take, range(2))
    (owner,) = {update.update["new"] for update in await history(saver, "test.slot")}
    assert await saver.ashared("test.slot", "p") == owner
    (other,) = set(ran) - {owner}
    assert (ran[owner], ran[other]) == (1, 2)
    assert sorted(map(str, (end["seen"][0] for end in ends))) == sorted(["None", owner])


async def test_two_insert_the_first_row_of_a_key(saver: TransactionalSaver, database_url: str, bank: Bank) -> None:
    """The second waits at the primary key, then its commit is repaired: its node does not run again."""
    ran: Counter[str] = Counter()
    second: list[asyncio.Task[Any]] = []
    node = adder(ran)

    async def when_the_first_has_written() -> None:
        failpoints.disarm("commit.staged")
        second.append(asyncio.create_task(run_all(other, node, range(1, 2))))
        await bank.lock_waited_for(unless=second[0])

    async with TransactionalSaver.from_conn_string(database_url) as other:
        failpoints.arm("commit.staged", when_the_first_has_written)
        await run_all(saver, node, range(1))
        await second[0]
        assert set(ran.values()) == {1}
        assert [update.update["steps"][0]["id"] for update in await history(saver)] == [0, 1]
        (step,) = [step for step in await steps_of(other, config_of("t-1")) if step.nodes]
        assert (step.attempts, step.repairs >= 1) == (1, True)


async def test_a_commit_that_keeps_meeting_others_at_the_value_is_tried_for_longer(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    """Other processes come first, time and again: a plain graph is not told, since nothing has to run again."""
    ran: Counter[str] = Counter()
    left = [20]

    async def another_one_was_first() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise asyncpg.SerializationError

    failpoints.arm("commit.staged", another_one_was_first)
    await chain(saver, adder(ran)).ainvoke({"n": 1}, thread)
    assert set(ran.values()) == {1}
    assert len(await history(saver)) == 1
    left[0] = 20
    with pytest.raises(StepConflict):
        await chain(saver, reading).ainvoke({"n": 1}, config_of("reads"))


async def reading(state: Any) -> Any:
    await current_step().shared("test.plan", "p")
    return {}


@pytest.mark.parametrize("point", ["commit.begun", "commit.staged", "commit.before_commit"])
async def test_a_backend_that_is_killed_neither_doubles_nor_loses_an_update(
    saver: TransactionalSaver, bank: Bank, point: str
) -> None:
    ran: Counter[str] = Counter()

    async def kill_once() -> None:
        failpoints.disarm(point)
        await bank.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    failpoints.arm(point, kill_once)
    await run_all(saver, adder(ran), range(6))
    assert set(ran.values()) == {1}
    updates = await history(saver)
    assert [update.version for update in updates] == list(range(1, 7))
    assert sorted(update.update["steps"][0]["id"] for update in updates) == list(range(6))
    assert len((await saver.ashared("test.plan", "p")).steps) == 6


async def test_an_update_whose_commit_has_no_answer_is_merged_once(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def lose_it() -> None:
        failpoints.disarm("commit.lost_answer")
        raise asyncpg.ConnectionDoesNotExistError

    failpoints.arm("commit.lost_answer", lose_it)
    await chain(saver, reducing("a", 5, to="test.total")).ainvoke({}, thread)
    assert await saver.ashared("test.total", "p") == 5
    assert len(await history(saver, "test.total")) == 1


async def test_one_that_is_refused_in_a_shared_transaction_takes_its_own_along(together: Together) -> None:
    """Each sees what those before it have made, and the third one is alone in what it does wrong."""

    async def decide(at: int) -> None:
        current_step().reduce("test.few", "p", {"items": [at, at] if at == 2 else at})

    together.decide = decide
    ends = await together.run()
    assert [isinstance(end, Exception) for end in ends] == [False, False, True, False, True]
    assert isinstance(ends[2], StagedWriteFailed)
    updates = await history(together.saver, "test.few")
    assert [update.update["items"] for update in updates] == [0, 1, 3]
    assert (await together.saver.ashared("test.few", "p")).items == [0, 1, 3]
    assert sorted(together.ran) == [0, 1, 2, 3, 4]


# -- however it is used ------------------------------------------------------------------------------------------------


async def test_a_result_that_was_stored_is_merged_by_whoever_resumes(
    saver: TransactionalSaver, database_url: str, thread: RunnableConfig
) -> None:
    """The sibling fails; another process goes on, and the finished task does not run again."""
    ran: Counter[str] = Counter()
    broken = [True]

    async def count(name: str) -> None:
        ran[name] += 1

    async def fails(state: Any) -> Any:
        if broken:
            raise RuntimeError("broken")
        return {}

    nodes = [reducing("a", 1, 2, to="test.total", also=count), fails]
    with pytest.raises(RuntimeError, match="broken"):
        await fan(saver, *nodes).ainvoke({"seen": []}, thread)
    assert await saver.ashared("test.total", "p") == 0
    broken.clear()
    async with TransactionalSaver.from_conn_string(database_url) as other:
        await fan(other, *nodes).ainvoke(None, thread)
        assert await other.ashared("test.total", "p") == 3
    assert ran == {"a": 1}


async def test_a_failed_execution_leaves_nothing(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    tries = []

    async def node(state: Any) -> Any:
        tries.append(1)
        current_step().reduce("test.total", "p", len(tries))
        if len(tries) < 3:
            raise ValueError
        return {}

    await chain(saver, node, retry_policy=AGAIN).ainvoke({}, thread)
    assert await saver.ashared("test.total", "p") == 3


async def test_results_that_an_update_takes_along_are_merged(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def asks(state: Any) -> Any:
        return {"seen": [interrupt("?")]}

    graph = fan(saver, reducing("a", 4, to="test.total"), asks)
    await graph.ainvoke({"seen": []}, thread)
    assert await saver.ashared("test.total", "p") == 0
    await graph.aupdate_state(thread, None, as_node=END)
    assert await saver.ashared("test.total", "p") == 4
    assert [update.node for update in await history(saver, "test.total")] == ["a"]


async def test_in_a_subgraph(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    inner = chain(None, reducing("inside", 1, to="test.total"), reducing("again", 1, to="test.total"))
    outer = StateGraph(State).add_node("outer", inner).add_edge(START, "outer").compile(checkpointer=saver)
    await transactional(outer).ainvoke({"seen": []}, thread)
    updates = await history(saver, "test.total")
    assert [update.node for update in updates] == ["inside", "again"]
    assert all(update.checkpoint_ns.startswith("outer:") for update in updates)


def test_in_synchronous_nodes(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    def node(state: Any) -> Any:
        step = current_step().sync
        before = step.shared("test.total", "p")
        step.reduce("test.total", "p", 2)
        return {"n": before}

    flow = transactional(chain(sync_saver, node))
    assert [flow.invoke({}, thread)["n"] for _ in range(3)] == [0, 2, 4]


async def test_an_sql_statement_between_updates_is_between_them(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    count = "INSERT INTO journal (line) SELECT version::text FROM runtime.shared_value WHERE key = $1"

    async def node(state: Any) -> Any:
        step = current_step()
        for update in (1, 1, None, 1):
            if update is None:
                step.stage(count, "p")
            else:
                step.reduce("test.total", "p", update)
        step.stage(count, "p")
        return {}

    await chain(saver, node).ainvoke({}, thread)
    assert await bank.journal() == ["2", "3"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "update", "words"),
    [
        ("test.plan", ["x"], "takes a dict; it was given a list"),
        ("test.plan", {"steps": {"note": "no id"}}, "items with 'id'"),
        (
            "test.plan",
            {"steps": {"id": "no number"}},
            r"refuses an update: steps.0.id: Input should be a valid integer",
        ),
        ("test.plan", {"seen": "many"}, "seen: Input should be a valid integer"),
        ("test.plan", {"owner": object()}, "no JSON document"),
        ("test.once", 3, "it: Input should be a valid string"),
        ("test.slot", swap(None, 3), "it: Input should be a valid string"),
    ],
)
async def test_an_update_that_cannot_be_good_is_refused_at_once(
    saver: TransactionalSaver, thread: RunnableConfig, name: str, update: Any, words: str
) -> None:
    with pytest.raises(UpdateInvalid, match=words) as caught:
        await chain(saver, reducing("a", update, to=name)).ainvoke({}, thread)
    assert caught.value.place.endswith(f"shared value {name!r} of key 'p'")
    assert await history(saver, name) == []


async def test_what_only_the_value_tells_fails_in_the_commit(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    await saver.areduce("test.few", "p", {"items": [1, 2]})
    graph = chain(saver, reducing("a", {"items": [3, 4]}, to="test.few"))
    with pytest.raises(StagedWriteFailed, match=r"'a'.*items: List should have at most 3 items") as caught:
        await graph.ainvoke({}, thread)
    assert (caught.value.task, type(caught.value.__cause__)) == ("a", UpdateInvalid)
    assert (await saver.ashared("test.few", "p")).items == [1, 2]
    assert len(await history(saver, "test.few")) == 1


async def test_a_name_that_nobody_has_declared(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    with pytest.raises(SharedUnknown, match=r"No shared value 'test.none' is declared in this process"):
        await chain(saver, reducing("a", 1, to="test.none")).ainvoke({}, thread)
    with pytest.raises(SharedUnknown):
        await saver.ashared("test.none", "p")


async def test_a_process_that_has_not_declared_it_keeps_it_from_being_lost(
    saver: TransactionalSaver, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = chain(saver, reducing("a", 1, to="test.total"))

    async def forget() -> None:
        monkeypatch.delitem(declared._declared, "test.total")

    failpoints.arm("commit.begun", forget)
    with pytest.raises(StagedWriteFailed, match=r"No shared value 'test.total'"):
        await graph.ainvoke({}, thread)
    failpoints.disarm("commit.begun")
    monkeypatch.undo()
    await graph.ainvoke(None, thread)
    assert await saver.ashared("test.total", "p") == 1
