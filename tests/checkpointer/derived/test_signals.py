"""Signals in a super-step: one snapshot, facts of one key's values, and nothing that moves by itself."""

from __future__ import annotations

import asyncio
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import AggregateNotFound, ConfigError
from tests.checkpointer.derived.payments import ALL, Payment, records

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    """What tasks have seen."""

    seen: Annotated[list[Any], operator.add]


@pytest.fixture
def hold_idle() -> float | str:
    """Nothing is held between two reads, so that every read and the commit come in a snapshot of their own."""
    return 0


@pytest.fixture
async def saver(database_url: str, hold_idle: float | str) -> Any:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=hold_idle) as saver:
        await saver.ingestion.declare(*ALL)
        await saver.ingestion.ingest("s", records(Payment(5), Payment(6, card="B"), Payment(64)))
        yield saver


def flow(saver: TransactionalSaver, **nodes: Callable[..., Any]) -> Any:
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return transactional(builder.compile(checkpointer=saver))


async def runs_with(saver: TransactionalSaver, ask: Callable[[Any], Any], *between: Payment) -> list[Any]:
    """What a node sees that asks, in each of its runs, while events are ingested before its super-step commits."""
    seen: list[Any] = []

    async def node(state: Any) -> Any:
        seen.append(await ask(current_step()))
        if len(seen) == 1:
            await saver.ingestion.ingest("s", records(*between, first=10))
        return {"seen": [1]}

    await flow(saver, node=node).ainvoke({}, THREAD)
    return seen


async def test_only_events_that_move_the_values_of_the_key_run_the_task_again(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        return (await step.signal("velocity", "A")).values["count"]

    others = (Payment(66, card="B"), Payment(67, type="refund"))
    assert await runs_with(saver, ask, *others) == [1]


async def test_an_event_of_the_key_runs_it_again(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        found = await step.signal("velocity", "A")
        return found.values["count"], found.point

    assert await runs_with(saver, ask, Payment(66)) == [(1, 1), (2, 2)]


async def test_so_does_the_watermark_when_a_window_moves_past_an_event(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        return (await step.signal("velocity", "A")).values["count"]

    assert await runs_with(saver, ask, Payment(130, card="B")) == [1, 0]


async def test_but_not_in_a_window_of_a_moment_that_is_given(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        return (await step.signal("velocity", "A", at=Payment(64).at)).values["count"]

    assert await runs_with(saver, ask, Payment(130, card="B"), Payment(130)) == [1]


async def test_a_level_moves_with_the_thresholds_that_are_reached_and_with_nothing_else(
    saver: TransactionalSaver,
) -> None:
    async def ask(step: Any) -> Any:
        at = Payment(64).at
        count = await step.level("velocity", "A", [2, 4], of="count", at=at)
        total = await step.level("total", ["A", "EUR"], [Decimal("3.5"), 100], of="sum")
        return count, total, await step.level("shops", "A", [1, 2], of="distinct", at=at)

    assert await runs_with(saver, ask, Payment(66), Payment(67, amount="0.50")) == [(0, 0, 1), (1, 1, 1)]


async def test_a_level_stays_while_the_value_moves_between_thresholds(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        return await step.level("velocity", "A", [1, 4], of="count", at=Payment(64).at)

    assert await runs_with(saver, ask, Payment(66), Payment(67)) == [1]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("velocity", {"of": "avg"}),
        ("velocity", {"of": "distinct"}),
        ("total", {"of": "sum"}),
        ("velocity", {"thresholds": [True]}),
        ("velocity", {"thresholds": ["4"]}),
    ],
)
async def test_a_level_that_cannot_be_meant(saver: TransactionalSaver, name: str, given: dict[str, Any]) -> None:
    async def node(state: Any) -> Any:
        await current_step().level(name, "A", **{"thresholds": [1], "of": "count", **given})

    with pytest.raises(ConfigError, match=name):
        await flow(saver, node=node).ainvoke({}, THREAD)


async def test_what_is_only_shown_and_the_ingestion_point_are_no_facts(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        shown = await step.signal("velocity", "A", validate=False)
        point = await step.ingestion()
        assert (shown.point, shown.watermark) == (point.point, point.watermark)
        return shown.values["count"]

    assert await runs_with(saver, ask, Payment(66)) == [1]


async def test_the_ingestion_point_is_a_fact_where_that_is_asked_for(saver: TransactionalSaver) -> None:
    async def ask(step: Any) -> Any:
        return (await step.ingestion(validate=True)).point

    assert await runs_with(saver, ask, Payment(66, card="C")) == [1, 2]


def looking(saver: TransactionalSaver, *, strict: bool) -> tuple[Callable[[Any], Any], list[Any]]:
    """A node for four parallel tasks that reads, lets events be ingested, and reads again; and what it has seen."""
    barrier, nth, seen = asyncio.Barrier(4), iter(range(10, 100)), []
    met = 0

    async def look(state: Any) -> Any:
        nonlocal met
        step = current_step()
        first = await step.signal("velocity", "C")
        if met < 4:  # the first time only: tasks may run again alone
            met += 1
            await barrier.wait()
            await saver.ingestion.ingest("s", records(Payment(70, card="D"), first=next(nth)))
            await barrier.wait()
        second = await step.signal("total", ["D", "EUR"])
        point = await step.ingestion(validate=strict)
        shops = await step.signal("shops", "D", at=Payment(70).at)
        seen.append((first.point, second.point, shops.point, point.point))
        return {"seen": [(point.point, second.value, shops.values["distinct"], shops.watermark)]}

    return look, seen


def all_agree(seen: list[Any]) -> bool:
    """Whether all tasks have seen what had come up to one ingestion point: each batch brings one payment of D."""
    point, total, distinct, _ = seen[0]
    return len(set(seen)) == 1 and (total, distinct) == ((point - 1) * Decimal("1.5"), min(point - 1, 1))


@pytest.mark.parametrize("hold_idle", ["forever"])
async def test_four_parallel_tasks_agree_although_events_are_ingested_between_their_reads(
    saver: TransactionalSaver,
) -> None:
    look, seen = looking(saver, strict=False)
    end = await flow(saver, a=look, b=look, c=look, d=look).ainvoke({}, THREAD)
    assert all_agree(end["seen"])
    assert set(seen) == {(1, 1, 1, 1)}


async def test_they_agree_as_well_when_their_snapshot_moves_on(saver: TransactionalSaver) -> None:
    """What they had read is validated in each new snapshot, and is what is there at its ingestion point too."""
    look, seen = looking(saver, strict=False)
    end = await flow(saver, a=look, b=look, c=look, d=look).ainvoke({}, THREAD)
    assert all_agree(end["seen"])
    assert set(seen) == {(1, 5, 5, 5)}


async def test_with_the_ingestion_point_as_a_fact_they_commit_at_that_point(saver: TransactionalSaver) -> None:
    look, seen = looking(saver, strict=True)
    four = asyncio.Barrier(4)

    async def and_once_more(state: Any) -> Any:
        found = await look(state)
        if len(seen) <= 4 and await four.wait() == 0:
            await saver.ingestion.ingest("s", records(Payment(70, card="D"), first=200))
        return found

    nodes = dict.fromkeys("abcd", and_once_more)
    end = await flow(saver, **nodes).ainvoke({}, THREAD)
    assert all_agree(end["seen"])
    assert {point for point, *_ in end["seen"]} == {6}
    assert [point for *_, point in seen] == [5] * 4 + [6] * 4


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_what_a_step_commits_is_what_the_point_beside_it_stands_for(saver: TransactionalSaver) -> None:
    """Flows decide and write while events come in: each has written what counting up to its point gives."""
    async with saver.transaction() as tx:
        await tx.execute("CREATE TABLE decision (card text, point bigint, spent numeric, used bigint)")

    async def decide(state: Any) -> Any:
        step = current_step()
        card = "ABCD"[int(step.thread_id) % 4]
        used = await step.signal("velocity", card, at=Payment(64).at)
        spent = await step.signal("total", [card, "EUR"])
        row = (card, spent.point, spent.value, used.values["count"])
        step.stage("INSERT INTO decision VALUES ($1, $2, $3, $4)", *row)
        return {}

    graph = flow(saver, decide=decide)

    async def ingest() -> None:
        for nth in range(30):
            batch = records(Payment(62, "ABCD"[nth % 4]), Payment(10, "ABCD"[nth % 3]), first=10 + nth * 2)
            await saver.ingestion.ingest("s", batch)

    runs = (graph.ainvoke({}, {"configurable": {"thread_id": str(nth)}}) for nth in range(16))
    await asyncio.gather(ingest(), *runs)
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT d.*, (SELECT ROW(sum((e.payload ->> 'amount')::numeric), count(*) FILTER (WHERE e.at >= $1)) "
            "FROM runtime.derived_event e WHERE e.payload ->> 'card' = d.card AND e.point <= d.point) AS real "
            "FROM decision d",
            Payment(10).at,
        )
    assert len(rows) == 16
    assert len({row["point"] for row in rows}) > 1
    assert [(row["spent"], row["used"]) for row in rows] == [(row["real"][0] or 0, row["real"][1]) for row in rows]


async def test_synchronous_nodes_ask_the_same(saver: TransactionalSaver) -> None:
    seen: list[Any] = []

    def node(state: Any) -> Any:
        step = current_step().sync
        level = step.level("total", ["A", "EUR"], [1, 3, 4], of="sum")
        seen.append((step.signal("total", ["A", "EUR"]).value, step.ingestion().point, level))
        return {}

    await flow(saver, node=node).ainvoke({}, THREAD)
    assert seen == [(3, 1, 2)]


async def test_an_aggregate_that_is_not_there_ends_the_run_by_name(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        await current_step().signal("velocitee", "A")

    with pytest.raises(AggregateNotFound, match="velocitee"):
        await flow(saver, node=node).ainvoke({}, THREAD)
