"""Whole runs of the fraud flow: what is decided, what moves in between, and what runs again for it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep.checkpointer import TransactionalSaver
from superstep.graphs import fraud
from superstep.graphs.fraud import seed
from superstep.runtime.faults import InputInvalid
from tests.graphs.fraud.conftest import QUIET, RISKY, sighted, used
from tests.support.desks import at, question

if TYPE_CHECKING:
    from tests.graphs.fraud.conftest import Desk


async def test_setup_may_run_anywhere_any_number_of_times(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as first,
        TransactionalSaver.from_conn_string(database_url) as second,
    ):
        await first.setup()
        await asyncio.gather(*(fraud.setup(each) for each in (first, second) * 4))
        point = await first.ingestion.point()
        await fraud.setup(first)
        assert await first.ingestion.point() == point
        async with first.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM fraud.card") == seed.CARDS
            assert await tx.fetchval("SELECT count(*) FROM runtime.derived_event") == len(seed.events())
        assert {each.status for each in await first.ingestion.aggregates()} == {"ready"}


async def test_aggregates_that_come_after_the_events_are_built(database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        await fraud.setup(saver)
        await saver.ingestion.drop("card_velocity")
        await fraud.setup(saver)
        assert (await saver.ingestion.signal("card_velocity", "C-1002", at=seed.NOON)).values["count"] == 5


async def test_the_example_is_approved(desk: Desk) -> None:
    request = fraud.example_input()
    out = await desk.ask(request)
    assert out["outcome"]["status"] == "approved"
    assert await desk.check({request["authorisation_id"]: request}) == 1
    assert desk.weighed == 1
    assert fraud.example_input()["authorisation_id"] != request["authorisation_id"]
    json.dumps(out)


async def test_what_is_risky_is_blocked_by_a_human_and_the_card_held(desk: Desk) -> None:
    asked = question(await desk.ask(RISKY))
    assert (asked["risk"], asked["facts_changed"]) == (75, False)
    assert asked["signals"]["device"] == {"distinct": 3}
    assert "not understood" in question(await desk.flow.ainvoke(Command(resume="yes"), at("t")))["problem"]
    out = await desk.say(block=True)
    assert out["outcome"]["status"] == "blocked"
    assert await desk.sql("SELECT status FROM fraud.card WHERE id = 'C-1002'") == "held"
    assert (await desk.ask({**RISKY, "authorisation_id": "AU-2"}, "u"))["outcome"]["status"] == "refused"
    assert await desk.check({"AU-1": RISKY}) == 1
    assert desk.weighed == 1


async def test_a_human_may_let_it_pass(desk: Desk) -> None:
    await desk.ask(RISKY)
    assert (await desk.say(block=False))["outcome"]["status"] == "approved"
    assert await desk.sql("SELECT status FROM fraud.card WHERE id = 'C-1002'") == "active"


async def test_a_signal_that_passes_a_threshold_before_the_answer_is_weighed_and_asked_about_again(desk: Desk) -> None:
    await desk.ask(RISKY)
    await desk.ingest(sighted("D-77", "C-1020"), sighted("D-77", "C-1021"))
    asked = question(await desk.say(block=False))
    assert (asked["facts_changed"], asked["risk"], desk.weighed) == (True, 95, 2)
    assert await desk.decisions() == []
    assert (await desk.say(block=True))["outcome"]["status"] == "blocked"
    assert await desk.check({"AU-1": RISKY}) == 1


async def test_signals_may_move_between_thresholds_before_the_answer(desk: Desk) -> None:
    """The answer counts, no model is asked, and the decision names the point that the human was shown."""
    point = question(await desk.ask(RISKY)) and await desk.saver.ingestion.point()
    await desk.ingest(used("C-1002"), sighted("D-77", "C-1020"), used("C-1003"))
    assert (await desk.say(block=True))["outcome"]["point"] == point
    (row,) = await desk.decisions()
    assert (row["point"], row["settled_point"], desk.weighed) == (point, point + 1, 1)
    assert await desk.check({"AU-1": RISKY}) == 1


async def test_a_card_that_is_held_before_the_answer(desk: Desk) -> None:
    await desk.ask(RISKY)
    await desk.sql("UPDATE fraud.card SET status = 'held' WHERE id = 'C-1002'")
    out = await desk.say(block=True)
    assert (out["outcome"]["status"], await desk.decisions()) == ("refused", [])


async def test_an_authorisation_that_was_decided_ends_at_once(desk: Desk) -> None:
    await desk.ask(QUIET)
    assert (await desk.ask(QUIET, "u"))["outcome"]["status"] == "decided_before"
    assert desk.weighed == 1


async def test_a_thread_takes_one_request_after_the_other(desk: Desk) -> None:
    await desk.ask(RISKY)
    await desk.say(block=False)
    out = await desk.ask({**QUIET, "authorisation_id": "AU-2"})
    assert (out["outcome"]["status"], out["ruling"], out["facts_changed"]) == ("approved", None, False)


@pytest.mark.parametrize(
    "change",
    [
        {"authorisation_id": ""},
        {"card": None},
        {"card": "C-9"},
        {"device": 1},
        {"amount": 0},
        {"amount": True},
        {"at": "noon"},
        {"at": "2026-01-15T12:00:00"},
    ],
)
async def test_requests_that_are_none(desk: Desk, change: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match=f"{next(iter(change))}|{next(iter(change.values()))}"):
        await desk.ask({**QUIET, **change})
