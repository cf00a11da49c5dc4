"""Old threads are swept away, and nothing else is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import Retention, Rule, StoredThreads, TransactionalSaver
from superstep.checkpointer.threads import retention
from superstep.checkpointer.threads.queries import maintenance
from superstep.runtime.faults import ConfigError
from tests.checkpointer.threads.test_delta_channels import delta_graph
from tests.support.graphs import LARGE, chain, config_of
from tests.support.many_threads import fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.bank import Bank

DAY = timedelta(days=1)


async def _node(state: Any) -> Any:
    return {"n": state["n"] + 1, "bag": {"text": "x" * LARGE, "n": state["n"]}}


async def _ask(state: Any) -> Any:
    return {"seen": [interrupt("well?")]}


async def _ends(saver: TransactionalSaver, thread_id: str, graph: str | None = None) -> None:
    await transactional(chain(saver, _node), name=graph).ainvoke({"n": 0}, config_of(thread_id))


async def _age(bank: Bank, days: float, *thread_ids: str) -> None:
    await bank.do(
        "UPDATE runtime.thread SET updated_at = now() - $1::interval WHERE thread_id = ANY ($2::text[])",
        timedelta(days=days),
        list(thread_ids),
    )


async def _left(saver: TransactionalSaver) -> set[str]:
    return {thread.thread_id for thread in await saver.athreads()}


async def test_threads_older_than_their_rule_are_deleted_and_no_others(saver: TransactionalSaver, bank: Bank) -> None:
    for name, graph in (("a old", "a"), ("a new", "a"), ("b old", "b"), ("b new", "b"), ("c old", None), ("c", None)):
        await _ends(saver, name, graph)
    await _age(bank, 3, "a old", "b old", "c old")
    await _age(bank, 1.5, "a new", "b new", "c")
    rules = Retention(Rule(2 * DAY), {"a": Rule(DAY), "b": Rule(None)})
    would = await saver.asweep(rules, dry_run=True)
    assert await _left(saver) == {"a old", "a new", "b old", "b new", "c old", "c"}
    assert await saver.asweep(rules) == would
    assert (would.deleted, would.shortened) == (3, 0)
    assert would.bytes > 3 * LARGE
    assert await _left(saver) == {"b old", "b new", "c"}
    assert await saver.asweep(rules) == (0, 0, 0)


async def test_what_is_deleted_leaves_no_rows(saver: TransactionalSaver, bank: Bank) -> None:
    await _ends(saver, "old")
    await _age(bank, 2, "old")
    await saver.asweep(Retention(Rule(DAY)))
    for table in ("thread", "checkpoint", "channel_value", "task_write"):
        assert await bank.do(f"SELECT 1 FROM runtime.{table} WHERE thread_id = 'old'") == []


async def test_more_threads_than_one_transaction_takes(saver: TransactionalSaver, bank: Bank) -> None:
    await bank.do(
        "INSERT INTO runtime.thread (thread_id, head, updated_at) "
        "SELECT 'many-' || i, 'x', now() - interval '2 days' FROM generate_series(1, 250) i"
    )
    assert (await saver.asweep(Retention(Rule(DAY)))).deleted == 250


@pytest.mark.parametrize("flow", [True, False])
async def test_one_that_waits_for_an_answer_is_taken_only_if_told_so(
    saver: TransactionalSaver, bank: Bank, *, flow: bool
) -> None:
    graph: Any = chain(saver, _node, _ask)
    graph = transactional(graph) if flow else graph
    await graph.ainvoke({"n": 0}, config_of("waits"))
    await _age(bank, 400, "waits")
    for rule in (Rule(DAY), Rule(DAY, keep_latest=True)):
        assert await saver.asweep(Retention(rule)) == (0, 0, 0)
    assert (await graph.ainvoke(Command(resume="yes"), config_of("waits")))["seen"] == ["yes"]

    await graph.ainvoke({"n": 0}, config_of("waits too"))
    await _age(bank, 400, "waits too")
    assert (await saver.asweep(Retention(Rule(DAY, keep_interrupted=False)))).deleted == 1


async def test_one_that_is_run_is_not_taken(saver: TransactionalSaver, bank: Bank) -> None:
    """Whatever the age: its process gives signs of life."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def thinks(state: Any) -> Any:
        started.set()
        await go_on.wait()
        return {"n": 7}

    run = asyncio.create_task(transactional(chain(saver, thinks)).ainvoke({"n": 0}, config_of("runs")))
    await started.wait()
    await _age(bank, 400, "runs")
    try:
        assert await saver.asweep(Retention(Rule(DAY))) == (0, 0, 0)
        await bank.do("UPDATE runtime.worker SET seen_at = now() - interval '5 minutes'")
        assert (await saver.asweep(Retention(Rule(DAY)), dry_run=True)).deleted == 1  # its process is gone
    finally:
        go_on.set()
    assert (await run)["n"] == 7


@pytest.mark.parametrize("keep_latest", [True, False])
async def test_one_that_is_resumed_after_it_was_found_is_not_taken(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch, *, keep_latest: bool
) -> None:
    """Between looking for old threads and locking them, somebody goes on with one."""
    graph = chain(saver, _node)
    for name in ("first", "second"):
        await graph.ainvoke({"n": 0}, config_of(name))
    await _age(bank, 2, "first", "second")
    found = retention._batches

    async def then_resumed(*args: Any) -> AsyncIterator[list[str]]:
        async for ids in found(*args):
            await graph.ainvoke({"n": 10}, config_of("first"))
            yield ids

    monkeypatch.setattr(retention, "_batches", then_resumed)
    swept = await saver.asweep(Retention(Rule(DAY, keep_latest)))
    assert swept.deleted + swept.shortened == 1
    assert len([state async for state in graph.aget_state_history(config_of("first"))]) == 6
    assert len([state async for state in graph.aget_state_history(config_of("second"))]) == int(keep_latest)


async def test_the_sweep_waits_for_nobody(saver: TransactionalSaver, bank: Bank, database_url: str) -> None:
    for name in ("locked", "free"):
        await _ends(saver, name)
    await _age(bank, 2, "locked", "free")
    async with TransactionalSaver.from_conn_string(database_url) as other, other.transaction() as tx:
        await tx.fetch("SELECT 1 FROM runtime.thread WHERE thread_id = 'locked' FOR UPDATE")
        async with asyncio.timeout(20):
            assert (await saver.asweep(Retention(Rule(DAY)))).deleted == 1
    assert await _left(saver) == {"locked"}


async def test_a_latest_state_stays_and_the_thread_goes_on(saver: TransactionalSaver, bank: Bank) -> None:
    graph = chain(saver, _node)
    for n in range(4):
        await graph.ainvoke({"n": n}, config_of("t"))
    await _age(bank, 2, "t")
    rules = Retention(Rule(DAY, keep_latest=True))
    would = await saver.asweep(rules, dry_run=True)
    assert len([state async for state in graph.aget_state_history(config_of("t"))]) == 12
    assert await saver.asweep(rules) == would
    assert (would.deleted, would.shortened) == (0, 1)
    assert would.bytes > 3 * LARGE
    assert (await graph.aget_state(config_of("t"))).values["n"] == 4
    assert len([state async for state in graph.aget_state_history(config_of("t"))]) == 1
    assert (await graph.ainvoke({"n": 9}, config_of("t")))["n"] == 10
    await _age(bank, 2, "t")
    assert (await saver.asweep(rules)).shortened == 1


@pytest.mark.parametrize("frequency", [2, 1000])
async def test_a_state_that_is_rebuilt_from_its_history_can_still_be(
    saver: TransactionalSaver, bank: Bank, frequency: int
) -> None:
    graph = delta_graph(saver, frequency)
    for n in range(5):
        await graph.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("t"))
    before = (await graph.aget_state(config_of("t"))).values
    await _age(bank, 2, "t")
    await saver.asweep(Retention(Rule(DAY, keep_latest=True)))
    assert (await graph.aget_state(config_of("t"))).values == before
    assert len(before["log"]) == 20


async def test_rules_that_make_no_sense_are_refused(saver: TransactionalSaver, database_url: str) -> None:
    for ttl in (timedelta(0), -DAY):
        with pytest.raises(ConfigError, match="longer than nothing"):
            Rule(ttl)
    async with StoredThreads.opened(database_url) as threads:
        with pytest.raises(ConfigError, match="TransactionalSaver"):
            await threads.asweep(Retention(Rule(DAY, keep_latest=True)))


async def test_sizes_name_the_largest(saver: TransactionalSaver, bank: Bank) -> None:
    await _ends(saver, "small", "g")
    for _ in range(5):
        await _ends(saver, "large", "g")
    found = await saver.asizes(1)
    assert [(each.thread_id, each.graph, each.status) for each in found.threads] == [("large", "g", "completed")]
    assert found.threads[0].bytes > 5 * LARGE
    assert [(graph, threads) for graph, threads, _ in found.graphs] == [("g", 2)]
    assert found.all_threads == 2
    assert set(found.tables) >= {"thread", "checkpoint", "channel_value", "task_write"}
    assert all(found.tables.values())


async def test_of_large_tables_a_sample_is_enough(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(saver, 60, 2_000)
    exact, rules = await saver.asizes(3), Retention(Rule(timedelta(minutes=30)))
    would = await saver.asweep(rules, dry_run=True)
    assert not exact.sampled
    monkeypatch.setattr("superstep.checkpointer.threads.queries.retention._PAGES", 40)
    found = await saver.asizes(3)
    assert found.sampled
    assert found.all_threads == exact.all_threads == 61
    assert [graph[:2] for graph in sorted(found.graphs)] == [graph[:2] for graph in sorted(exact.graphs)]
    assert found.threads[0].thread_id == exact.threads[0].thread_id == "long"
    assert exact.threads[1].bytes == found.threads[1].bytes  # too few of its rows were seen: it was measured
    for one, other in (
        (sum(graph[2] for graph in found.graphs), sum(graph[2] for graph in exact.graphs)),
        ((await saver.asweep(rules, dry_run=True)).bytes, would.bytes),
    ):
        assert other / 3 < one < other * 3
    assert (await saver.asweep(rules, dry_run=True)).deleted == would.deleted


async def test_a_transaction_of_a_sweep_takes_so_many_checkpoints_at_most(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(saver, 12, 100)
    monkeypatch.setattr("superstep.checkpointer.threads.queries.retention.COUNTED", 50)
    taken: list[list[str]] = []
    delete = maintenance.delete_threads

    async def noted(conn: Any, schema: str, thread_ids: Any) -> None:
        taken.append(list(thread_ids))
        await delete(conn, schema, thread_ids)

    monkeypatch.setattr(maintenance, "delete_threads", noted)
    assert (await saver.asweep(Retention(Rule(timedelta(seconds=1))))).deleted == 13
    names = [f"thread-{at:07}" for at in range(1, 13)]
    assert taken == [["long"], *(names[at : at + 2] for at in range(0, 12, 2))]


async def test_to_say_what_a_sweep_would_take_locks_nothing_for_long(saver: TransactionalSaver, bank: Bank) -> None:
    """A run that takes an old thread meanwhile is not kept waiting, nor does it keep the answer waiting."""
    await fill(saver, 3)
    async with saver.transaction() as tx:
        await tx.execute("SELECT 1 FROM runtime.thread FOR UPDATE")
        async with asyncio.timeout(20):
            would = await saver.asweep(Retention(Rule(timedelta(seconds=1))), dry_run=True)
    assert would.deleted == 3
