"""Batches, ingesters that meet, what is late, what is put aside, declarations that change."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import Aggregate, Format, Record, TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.derived import rebuild
from superstep.runtime.faults import AggregateNotFound, AggregateOutdated, ConfigError
from tests.checkpointer.derived.payments import ALL, SHOPS, TOTAL, VELOCITY, Payment, records

if TYPE_CHECKING:
    from superstep.checkpointer import Ingestion


@pytest.fixture
async def ingestion(saver: TransactionalSaver) -> Ingestion:
    await saver.ingestion.declare(*ALL)
    return saver.ingestion


async def total(ingestion: Ingestion, card: str = "A") -> Decimal:
    found = await ingestion.signal("total", [card, "EUR"])
    return Decimal(found.value)


async def reasons(ingestion: Ingestion) -> dict[int, str]:
    return {each.offset: each.reason async for each in ingestion.quarantine()}


# -- exactly once


async def test_a_record_counts_once_however_often_it_comes(ingestion: Ingestion) -> None:
    batch = records(*(Payment(n) for n in range(5)))
    await ingestion.ingest("s", batch)
    again = await ingestion.ingest(
        "s", [*batch, batch[0], *records(Payment(9), first=5), *records(Payment(9), first=5)]
    )
    assert (again.counts.events, again.counts.duplicates) == (1, 7)
    assert await total(ingestion) == 9
    (status,) = await ingestion.partitions()
    assert (status.position, status.events, status.duplicates) == (5, 6, 7)
    assert await ingestion.positions("s") == {"p": 5}


async def test_offsets_that_were_left_out_may_come_later(ingestion: Ingestion) -> None:
    """As numbers of an inbox do, whose transactions commit in another order."""
    await ingestion.ingest("s", [Payment(1).record(7)])
    done = await ingestion.ingest("s", [Payment(1).record(3), Payment(1).record(7)])
    assert (done.counts.events, done.counts.duplicates) == (1, 1)


async def test_nothing_is_no_batch_and_offsets_are_what_a_database_holds(ingestion: Ingestion) -> None:
    assert (await ingestion.ingest("s", [])).point == 0
    for wrong in (-1, 2**63):
        with pytest.raises(ConfigError, match="offset of s"):
            await ingestion.ingest("s", [Payment(1).record(0), Payment(1).record(wrong)])
    assert (await ingestion.ingest("s", [Payment(1).record(2**63 - 1)])).counts.events == 1


async def test_one_id_is_one_event_in_all_partitions_of_a_source(ingestion: Ingestion) -> None:
    form = Format(id="id")
    one, other = Payment(1, id="1"), Payment(1, id="2")
    await ingestion.ingest("s", records(one, one, other), form)
    await ingestion.ingest("s", records(one, other, partition="q"), form)
    await ingestion.ingest("another", records(one), form)
    assert await total(ingestion) == Decimal("4.5")


async def test_two_ingesters_of_one_partition_meet_harmlessly(ingestion: Ingestion, database_url: str) -> None:
    batch = records(*(Payment(n) for n in range(50)))
    async with TransactionalSaver.from_conn_string(database_url) as other:
        both = await asyncio.gather(*(each.ingest("s", batch) for each in (ingestion, other.ingestion) * 4))
    assert sorted(each.counts.events for each in both) == [0] * 7 + [50]
    assert await total(ingestion) == 75


async def test_points_are_in_the_order_of_commits(ingestion: Ingestion, database_url: str) -> None:
    """Whoever sees a point sees all events of all points up to it, however many ingest at once."""
    seen: list[tuple[int, int, int]] = []
    done = asyncio.Event()

    async def look(saver: TransactionalSaver) -> None:
        while not done.is_set():
            async with saver.transaction() as tx:
                row = await tx.fetchrow(
                    "SELECT (SELECT point FROM runtime.derived_point), (SELECT max(point) FROM runtime.derived_event), "
                    "(SELECT count(DISTINCT point) FROM runtime.derived_event)"
                )
            assert row is not None
            seen.append(tuple(row))

    async with TransactionalSaver.from_conn_string(database_url) as other:
        looking = asyncio.create_task(look(other))
        each_ten = [
            [ingestion.ingest("s", records(Payment(n), first=n, partition=name)) for n in range(10)] for name in "abcd"
        ]
        await asyncio.gather(*(one for ten in each_ten for one in ten))
        done.set()
        await looking
    assert await ingestion.point() == 40
    assert all(point == (latest or 0) == batches for point, latest, batches in seen)
    assert len({point for point, *_ in seen}) > 1
    assert await total(ingestion) == 60


async def test_a_batch_waits_for_the_one_before_it(ingestion: Ingestion, saver: TransactionalSaver) -> None:
    """The second one begins while the first one has taken its point and not committed."""
    there, go = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        failpoints.disarm("ingest.before_commit")
        there.set()
        await go.wait()

    failpoints.arm("ingest.before_commit", stop)
    first = asyncio.create_task(ingestion.ingest("s", records(Payment(1))))
    await there.wait()
    second = asyncio.create_task(ingestion.ingest("s", records(Payment(2), first=0)))
    async with saver.transaction() as tx:
        while not await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock'"):
            assert not second.done()
    go.set()
    outcomes = await asyncio.gather(first, second)
    assert [each.point for each in outcomes] == [1, 2]
    assert outcomes[1].counts.duplicates == 1


# -- late


async def test_what_is_late_is_counted_and_listed(ingestion: Ingestion) -> None:
    """`shops` waits for half an hour; for `velocity` nothing is late, nor without a window."""
    batch = records(Payment(100, shop="a"), Payment(70, shop="b"), Payment(69, shop="c"), Payment(200, card="B"))
    done = await ingestion.ingest("s", batch)
    assert (done.counts.events, done.counts.late) == (4, 1)
    (late,) = await ingestion.late("shops")
    assert (late.offset, late.behind, late.payload["shop"]) == (2, timedelta(minutes=31), "c")
    assert {each.name: each.late for each in await ingestion.aggregates()} == {"shops": 1, "total": 0, "velocity": 0}
    assert await ingestion.late("velocity") == []
    found = await ingestion.signal("shops", "A", at=Payment(90).at)
    assert found.values["distinct"] == 2
    assert (await ingestion.signal("velocity", "A", at=Payment(75).at)).values["count"] == 2
    with pytest.raises(AggregateNotFound, match="shopz"):
        await ingestion.late("shopz")


# -- quarantine


async def test_what_cannot_be_ingested_is_put_aside_and_ingestion_goes_on(ingestion: Ingestion) -> None:
    ahead = datetime.now(UTC) + timedelta(days=2)
    bodies = [
        b"{bad",
        b'{"type": "unheard", "at": 1}',
        b'{"type": "pay", "at": 1, "card": "A"}',
        json.dumps(
            {"type": "pay", "at": ahead.isoformat(), "card": "A", "amount": 1, "shop": "s", "currency": "E"}
        ).encode(),
        b'{"type": "pay", "at": 1, "card": "A", "shop": "s", "currency": "EUR", "amount": "many"}',
        b"\0\xff",
    ]
    batch = [Record("p", nth, body) for nth, body in enumerate(bodies)]
    done = await ingestion.ingest("s", [*batch, *records(Payment(1), first=10)])
    assert (done.counts.events, done.counts.quarantined) == (1, 6)
    expected = ["malformed", "unknown-type", "misfit", "future", "misfit", "malformed"]
    assert await reasons(ingestion) == dict(enumerate(expected))
    whys = [each.why async for each in ingestion.quarantine()]
    assert whys[2] == '"shop" is missing, which aggregate shops needs.'
    assert "many" not in "".join(whys)
    assert [each.body async for each in ingestion.quarantine()] == bodies
    assert await total(ingestion) == Decimal("1.5")
    again = await ingestion.ingest("s", batch)
    assert again.counts.duplicates == 6


async def test_what_is_replayed_counts_as_if_it_had_been_understood_when_it_came(ingestion: Ingestion) -> None:
    early = json.dumps({"type": "new", "at": Payment(0).at.isoformat(), "card": "A", "n": 5}).encode()
    await ingestion.ingest("s", [*records(Payment(5)), Record("p", 1, early), *records(Payment(500), first=2)])
    assert (await ingestion.replay()).quarantined == 1
    new = Aggregate.of("new", events="new", key="card", value="n", compute="sum", window="1h", lateness="10m")
    await ingestion.declare(new)
    await ingestion.rebuild("new")
    done = await ingestion.replay()
    assert (done.events, done.quarantined, done.late) == (1, 0, 0)
    assert (await ingestion.signal("new", "A", at=Payment(0).at)).value == 5
    assert await reasons(ingestion) == {}
    (status,) = await ingestion.partitions()
    assert (status.watermark, status.quarantined, status.events) == (Payment(500).at, 0, 3)
    assert (await ingestion.ingest("s", [Record("p", 1, early)])).counts.duplicates == 1


async def test_two_replays_at_once_count_once(ingestion: Ingestion) -> None:
    await ingestion.ingest("s", records(Payment(1, type="new"), Payment(2, type="new"), Payment(3)))
    await ingestion.declare(Aggregate.of("new", events="new", key="card", compute="count"))
    await ingestion.rebuild("new")
    both = await asyncio.gather(*(ingestion.replay() for _ in range(4)))
    assert sum(each.events for each in both) == 2
    assert (await ingestion.signal("new", "A")).value == 2
    assert await reasons(ingestion) == {}


async def test_what_only_the_database_refuses_is_found_and_put_aside(
    ingestion: Ingestion, saver: TransactionalSaver
) -> None:
    async with saver.transaction() as tx:
        await tx.execute("ALTER TABLE runtime.derived_event ADD CHECK (1 / (position - 33) < 9)")
    done = await ingestion.ingest("s", records(*(Payment(n) for n in range(50))))
    assert (done.counts.events, done.counts.quarantined) == (49, 1)
    assert await reasons(ingestion) == {33: "rejected"}
    assert await total(ingestion) == Decimal("73.5")
    assert (await ingestion.replay()).quarantined == 1


async def test_types_that_are_ignored_leave_nothing(ingestion: Ingestion) -> None:
    done = await ingestion.ingest("s", records(Payment(1, type="beat"), Payment(2)), ignore=["beat"])
    assert (done.counts.events, done.counts.ignored) == (1, 1)
    assert await reasons(ingestion) == {}


async def test_events_that_do_not_meet_a_condition_give_nothing_and_need_nothing(ingestion: Ingestion) -> None:
    only = Aggregate.of("only", events="pay", key="user", compute="count", where={"shop": ["a", "b"], "amount": 1.5})
    await ingestion.declare(only)
    body = json.dumps({**json.loads(Payment(1, shop="b").record(0).body), "user": "U"}).encode()
    batch = [Record("q", 0, body), *records(Payment(1), Payment(2), Payment(3, shop="a", amount="2"))]
    assert (await ingestion.ingest("s", batch)).counts.events == 4
    for _ in range(2):
        assert (await ingestion.signal("only", "U")).value == 1
        await ingestion.rebuild("only")
    assert {each.name: each.misfits for each in await ingestion.aggregates()}["only"] == 0


# -- changed tables


def change(nth: int, **row: Any) -> Record:
    source = {"schema": "public", "table": "pay", "lsn": nth + 1, "ts_ms": 1_700_000_000_000 + nth}
    return Record("t", nth, json.dumps({"op": "c", "before": None, "after": row, "source": source}).encode())


async def test_a_table_whose_columns_change_is_named_and_put_aside_until_they_are_accepted(
    saver: TransactionalSaver,
) -> None:
    ingestion, form = saver.ingestion, Format("debezium")
    await ingestion.declare(Aggregate.of("n", events="public.pay", key="after.id", compute="count"))
    await ingestion.ingest("db", [change(0, id=1, amount=2)], form)
    done = await ingestion.ingest(
        "db", [change(1, id=1, amount=2, note="x"), change(2, id=1), change(3, id=1, amount=5)], form
    )
    assert (done.counts.events, done.counts.quarantined) == (1, 2)
    whys = [each.why async for each in ingestion.quarantine()]
    assert whys == [
        "The columns of public.pay have changed (new: note).",
        "The columns of public.pay have changed (gone: amount).",
    ]
    assert (await ingestion.replay()).quarantined == 2
    assert (await ingestion.replay(accept_schema=True)).events == 2
    assert (await ingestion.signal("n", "1")).value == 4
    assert (await ingestion.ingest("db", [change(4, id=1)], form)).counts.events == 1


# -- declarations


async def test_a_declaration_that_changes_is_never_silently_wrong(ingestion: Ingestion) -> None:
    await ingestion.ingest("s", records(*(Payment(n * 10) for n in range(10))))
    other = Aggregate.of("velocity", events="pay", key="card", value="amount", compute=["count", "sum"], window="30m")
    assert await ingestion.declare(other, SHOPS) == ["velocity"]
    with pytest.raises(AggregateOutdated, match="runtime ingest rebuild velocity"):
        await ingestion.signal("velocity", "A")
    await ingestion.ingest("s", records(Payment(95), first=10))
    assert await ingestion.rebuild("velocity") == 11
    assert (await ingestion.signal("velocity", "A")).values == {"count": 2, "sum": 3}
    await ingestion.ingest("s", records(Payment(96), first=11))
    assert (await ingestion.signal("velocity", "A")).values["count"] == 3
    assert await ingestion.declare(other) == []


async def test_a_new_one_is_ready_at_once_only_where_nothing_was_ingested(ingestion: Ingestion) -> None:
    await ingestion.ingest("s", records(Payment(1), Payment(2, card="B")))
    new = Aggregate.of("new", events="pay", key="shop", compute="count")
    assert await ingestion.declare(new) == ["new"]
    await ingestion.rebuild("new")
    assert (await ingestion.signal("new", "s")).value == 2
    await ingestion.drop("new")
    with pytest.raises(AggregateNotFound):
        await ingestion.signal("new", "s")
    with pytest.raises(AggregateNotFound, match="Declared: shops, total, velocity"):
        await ingestion.rebuild("new")


async def test_an_aggregate_is_dropped_piece_by_piece(
    ingestion: Ingestion, saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingestion.ingest("s", records(*(Payment(nth * 60, shop=f"s{nth}") for nth in range(10))))
    monkeypatch.setattr(rebuild, "CHUNK", 4)
    await ingestion.drop("shops")
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM runtime.derived_member") == 0
    assert [each.name for each in await ingestion.aggregates()] == ["total", "velocity"]


async def test_a_rebuild_leaves_out_what_does_not_fit_and_says_so(ingestion: Ingestion) -> None:
    await ingestion.ingest("s", records(Payment(1), Payment(2)))
    await ingestion.declare(Aggregate.of("new", events="pay", key="user", compute="count"))
    assert await ingestion.rebuild("new") == 0
    assert {each.name: each.misfits for each in await ingestion.aggregates()}["new"] == 2


async def test_batches_go_on_while_an_aggregate_is_built(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk holds few events: between two of them others ingest, and nothing is counted twice or left out."""
    monkeypatch.setattr(rebuild, "CHUNK", 5)
    for nth in range(10):
        await ingestion.ingest("s", records(*(Payment(nth) for _ in range(4)), first=nth * 4))
    other = Aggregate.of("velocity", events="pay", key="card", value="amount", compute="count", window="1d")
    await ingestion.declare(other)
    reached: list[tuple[int, int]] = []
    building = asyncio.create_task(ingestion.rebuild("velocity", lambda at, of: reached.append((at, of))))
    for nth in range(40, 60):
        await ingestion.ingest("s", records(Payment(nth), first=nth))
    await building
    assert reached[0][0] < reached[-1][0]
    assert (await ingestion.signal("velocity", "A")).value == 60


async def test_a_rebuild_that_died_stays_unreadable_until_it_is_repeated(ingestion: Ingestion, saver: Any) -> None:
    await ingestion.ingest("s", records(Payment(1)))
    async with saver.database.connections.borrow() as conn:
        await rebuild.begin(conn, "runtime", "total")
    with pytest.raises(AggregateOutdated, match="being rebuilt"):
        await total(ingestion)
    await ingestion.ingest("s", records(Payment(2), first=1))
    await ingestion.rebuild("total")
    assert await total(ingestion) == 3


async def test_two_that_rebuild_the_same_take_turns(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "CHUNK", 3)
    for nth in range(10):
        await ingestion.ingest("s", records(Payment(nth), Payment(nth, card=f"B{nth}"), first=nth * 2))
    await asyncio.gather(ingestion.rebuild("total"), ingestion.rebuild("total"))
    assert await total(ingestion) == 15


# -- reading


async def test_windows_without_a_moment_end_at_the_watermark(ingestion: Ingestion) -> None:
    empty = await ingestion.signal("velocity", "A")
    assert (empty.values, empty.since, empty.watermark) == ({"count": 0, "sum": 0, "avg": None}, None, None)
    assert (await ingestion.signal("shops", "A")).values == {"distinct": 0, "top": [], "last": None}
    await ingestion.ingest("s", records(Payment(5), Payment(64), Payment(61, card="B")))
    found = await ingestion.signal("velocity", "A")
    assert (found.since, found.until) == (Payment(10).at, Payment(70).at)
    assert (found.value, found.watermark, found.point) == (1, Payment(64).at, 1)
    assert (await ingestion.signal("velocity", "A", at=Payment(59).at)).value == 1


async def test_the_watermark_is_that_of_the_partition_that_lags(ingestion: Ingestion) -> None:
    await ingestion.ingest("s", [*records(Payment(100)), *records(Payment(40), partition="q")])
    assert (await ingestion.signal("total", ["A", "EUR"])).watermark == Payment(40).at
    await ingestion.ended("s", ["q"])
    assert (await ingestion.signal("total", ["A", "EUR"])).watermark == Payment(100).at
    await ingestion.ended("s", ["p"])
    assert (await ingestion.signal("total", ["A", "EUR"])).watermark == Payment(100).at
    await ingestion.ingest("s", records(Payment(50), first=1, partition="q"))
    assert (await ingestion.signal("total", ["A", "EUR"])).watermark == Payment(50).at


async def test_what_cannot_be_asked(ingestion: Ingestion) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        await ingestion.signal("velocity", "A", at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigError, match="no window"):
        await ingestion.signal("total", ["A", "EUR"], at=Payment(1).at)
    for key in ("A", ["A", "EUR", "x"]):
        with pytest.raises(ConfigError, match=r"2 parts \(card, currency\)"):
            await ingestion.signal("total", key)
    with pytest.raises(ConfigError, match="key"):
        await ingestion.signal("velocity", None)  # type: ignore[arg-type]
    assert VELOCITY.fingerprint != TOTAL.fingerprint
