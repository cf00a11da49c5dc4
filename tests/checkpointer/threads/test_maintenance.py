"""Deleting, pruning and copying threads, also while they run."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.types import interrupt

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads import provenance
from superstep.checkpointer.threads.queries import maintenance
from superstep.runtime.faults import InputInvalid, StaleRun, StepConflict
from tests.support.bank import BALANCE
from tests.support.databases import tables
from tests.support.graphs import LARGE, chain, config_of, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from tests.support.bank import Bank


async def rows_of(saver: TransactionalSaver, thread_id: str) -> dict[str, int]:
    counts = {}
    everybodys = {"shared_update", "memory"}  # what it has put into shared values, and what it remembers
    for table in set(await tables(saver)) - everybodys:
        async with saver.transaction() as tx:
            columns = await tx.fetch(
                "SELECT 1 FROM information_schema.columns "
                "WHERE table_schema = 'runtime' AND table_name = $1 AND column_name = 'thread_id'",
                table,
            )
            if columns:
                sql = f"SELECT count(*) FROM runtime.{table} WHERE thread_id = $1"
                counts[table] = await tx.fetchval(sql, thread_id)
    return counts


async def test_delete_thread_leaves_nothing_of_it_and_everything_of_others(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_guarded", {"bag"})
    model = FakeListChatModel(responses=["yes"])

    async def node(state: Any) -> Any:
        step = current_step()
        await race.read()
        await model.ainvoke("well?")
        step.stage("INSERT INTO journal (line) VALUES ('x')")
        step.stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"bag": {"long": "x" * LARGE}}

    async def ask(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        interrupt("?")

    graph = chain(saver, node, ask)
    for thread_id in ("doomed", "kept"):
        race = Race(bank, 5)
        await bank.set(100)
        with pytest.raises(StepConflict):
            await graph.ainvoke({"n": 0}, config_of(thread_id))
        await graph.ainvoke(None, config_of(thread_id))
        await saver.anote_reconciliation(thread_id, "a checkpoint", None, ["bag"], 1, 0)
        await bank.do(
            "INSERT INTO runtime.queued_run (run_id, thread_id, graph, kind, request) "
            "VALUES (gen_random_uuid(), $1, 'g', 'null', '')",
            thread_id,
        )
        await bank.do(
            "INSERT INTO runtime.effect (id, thread_id, ns, checkpoint_id, task_id, nth, root_id, nodes, node, topic, "
            "ordinal, state, kind, payload) "
            "VALUES ($1, $1, '', '', '', 0, '', '', '', 'x', 0, 'delivered', 'null', '')",
            thread_id,
        )
        await bank.do(
            "INSERT INTO runtime.child_run (id, thread_id, graph, parent_id, ns, checkpoint_id, task_id, nth, root_id, "
            "nodes, node, ordinal) VALUES ($1, $1, 'g', $1, '', '', '', 0, '', '', '', 1)",
            thread_id,
        )
    doomed, kept = await rows_of(saver, "doomed"), await rows_of(saver, "kept")
    assert all(doomed.values()), f"proves nothing where no row is: {doomed}"
    await saver.adelete_thread("doomed")
    assert not any((await rows_of(saver, "doomed")).values())
    assert await rows_of(saver, "kept") == kept
    assert await saver.aget_tuple(config_of("doomed")) is None
    await graph.ainvoke({"n": 0}, config_of("doomed"))
    assert (await graph.aget_state(config_of("doomed"))).next == ("ask",)


# -- while the thread runs ---------------------------------------------------------------------------------------------

POINTS = (
    "run.claimed",
    "step.pinned",
    "memo.before_store",
    "memo.stored",
    "writes.before_flush",
    "commit.begun",
    "commit.staged",
    "commit.before_commit",
    "commit.committed",
)


async def run_with_everything(saver: TransactionalSaver, thread_id: str) -> None:
    """Two super-steps that read, stage, pay a model and leave a result beside one that goes on."""
    model = FakeListChatModel(responses=["yes"])

    async def thinks(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        await model.ainvoke("well?")
        step.stage("INSERT INTO journal (line) VALUES ($1)", thread_id)
        return {"bag": {"long": "x" * LARGE}}

    async def beside(state: Any) -> Any:
        await model.ainvoke("and?")
        await model.ainvoke("and?")

    graph = fan(saver, thinks, beside)
    for run_id in ("r1", "r2"):
        await graph.ainvoke({"n": 0}, {**config_of(thread_id), "metadata": {"run_id": run_id}}, durability="sync")


@pytest.mark.parametrize("how", ["delete", "prune", "runs"])
@pytest.mark.parametrize("point", POINTS)
async def test_what_a_run_is_storing_while_its_thread_is_deleted_goes_too(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch, point: str, how: str
) -> None:
    # With guards in the process a commit locks the thread's row earlier, and the deletion comes after the run's end.
    monkeypatch.setattr(provenance, "_guarded", set())
    reached, going_on = asyncio.Event(), asyncio.Event()
    hits = itertools.count(1)

    async def pause() -> None:
        if next(hits) == 2:  # not at its beginning, where there is little to leave behind
            reached.set()
            await going_on.wait()

    failpoints.arm(point, pause)
    run = asyncio.create_task(run_with_everything(saver, "t"))
    await asyncio.wait((run, asyncio.create_task(reached.wait())), return_when=asyncio.FIRST_COMPLETED)
    assert reached.is_set(), run.result()
    failpoints.disarm(point)
    deletions = {
        "delete": lambda: saver.adelete_thread("t"),
        "prune": lambda: saver.aprune(["t"], strategy="delete"),
        "runs": lambda: saver.adelete_for_runs(["r1", "r2"]),
    }
    deleting = asyncio.create_task(deletions[how]())
    await bank.lock_waited_for(unless=deleting)
    going_on.set()
    await deleting
    with pytest.raises(StaleRun):
        await run
    assert not any((await rows_of(saver, "t")).values())


async def test_threads_deleted_together_do_not_wait_for_each_other(saver: TransactionalSaver) -> None:
    names = [f"t{i}" for i in range(8)]
    for name in names:
        await run_with_everything(saver, name)
    both = (saver.aprune(names, strategy="delete"), saver.aprune(names[::-1], strategy="delete"))
    await asyncio.gather(*both)
    assert await saver.athreads() == []


async def test_a_thread_that_was_deleted_while_it_ran_begins_afresh(saver: TransactionalSaver, bank: Bank) -> None:
    reached, going_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        reached.set()
        await going_on.wait()

    failpoints.arm("commit.before_commit", pause)
    run = asyncio.create_task(run_with_everything(saver, "t"))
    await reached.wait()
    failpoints.disarm("commit.before_commit")
    deleting = asyncio.create_task(saver.adelete_thread("t"))
    await bank.lock_waited_for(unless=deleting)
    going_on.set()
    await deleting
    with pytest.raises(StaleRun):
        await run
    await run_with_everything(saver, "t")
    assert len(await saver.asteps("t")) == 2


async def test_a_copy_does_not_mix_two_histories(saver: TransactionalSaver) -> None:
    await run_with_everything(saver, "one")
    await run_with_everything(saver, "other")
    before = await rows_of(saver, "other")
    with pytest.raises(InputInvalid, match="other"):
        await saver.acopy_thread("one", "other")
    assert await rows_of(saver, "other") == before
    await saver.acopy_thread("one", "third")
    counts = await rows_of(saver, "third")
    assert counts == {**await rows_of(saver, "one")}


async def test_a_thread_that_begins_while_it_is_deleted_leaves_nothing_behind(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion finds no row of it; the run is as far as its first checkpoint when the rest goes."""
    delete = maintenance.delete_threads
    runs: list[asyncio.Task[Any]] = []

    async def meanwhile(conn: Any, schema: str, thread_ids: Any) -> None:
        if not runs:
            runs.append(asyncio.create_task(chain(saver, plain).ainvoke({"n": 0}, config_of("new"))))
            await bank.lock_waited_for(unless=runs[0])
        await delete(conn, schema, thread_ids)

    async def plain(state: Any) -> Any:
        return {"n": 1}

    monkeypatch.setattr(maintenance, "delete_threads", meanwhile)
    await saver.adelete_thread("new")
    (ended,) = await asyncio.gather(*runs, return_exceptions=True)
    rows = await rows_of(saver, "new")
    assert bool(rows["checkpoint"]) == bool(rows["thread"]) == (not isinstance(ended, StaleRun))
