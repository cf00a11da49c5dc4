"""Flows and events that meet. Each race is forced: something is ingested between what was read and what is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.graphs.fraud import human, review, settle, signals
from tests.graphs.fraud.conftest import QUIET, RISKY, opened, sighted, used
from tests.support.desks import meet_after, once_after, question

if TYPE_CHECKING:
    from tests.graphs.fraud.conftest import Desk

FLOWS = 16
BATCHES = 300  # of each ingester at most


@pytest.mark.parametrize("desk", [0, 0.25], indirect=True)
async def test_sixteen_flows_beside_two_ingesters_decide_on_what_the_oracle_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ingest without a pause, uses of the cards that are decided among others, until the last flow has ended."""
    cards = [f"C-{number}" for number in range(1021, 1021 + 160)]  # the first 8 of them are decided on
    requests = {
        f"AU-{nth}": {**QUIET, "authorisation_id": f"AU-{nth}", "card": cards[nth % 8], "device": f"D-{nth % 8}"}
        for nth in range(FLOWS)
    }
    read, been = signals._seen, set[str]()

    async def moving(signal: str, request: Any) -> Any:
        """Of each flow, the card moves after the first signal that was read."""
        seen = await read(signal, request)
        if request["id"] not in been:
            been.add(request["id"])
            await desk.ingest(used(request["card"]), partition="r")
        return seen

    monkeypatch.setattr(signals, "_seen", moving)
    over = asyncio.Event()

    async def ingester(partition: str) -> int:
        batches = 0
        while not over.is_set() and batches < BATCHES:
            number = batches % len(cards)
            events = (used(cards[number], merchant=f"m-{batches % 7}"), sighted(f"D-{number % 32}", cards[number]))
            await desk.ingest(*events, partition=partition)
            batches += 1
        return batches

    async def flows() -> None:
        try:
            outs = await asyncio.gather(*(desk.ask(each, name) for name, each in requests.items()))
            waiting = [name for name, out in zip(requests, outs, strict=True) if "__interrupt__" in out]
            while waiting:
                outs = await asyncio.gather(*(desk.say(block=False, thread=name) for name in waiting))
                waiting = [name for name, out in zip(waiting, outs, strict=True) if "__interrupt__" in out]
        finally:
            over.set()

    *batches, _ = await asyncio.gather(ingester("p"), ingester("q"), flows())
    assert await desk.check(requests) == FLOWS
    assert min(batches) > 0
    assert len({row["point"] for row in await desk.decisions()}) > 1
    # What came in while signals were read has cost reads, and no model.
    assert (await desk.runs(*requests))["again"] > 0
    weighings = [step for name in requests for step in await desk.saver.asteps(name) if step.nodes == ["review"]]
    assert desk.weighed <= len(weighings) + sum(step.drifts for step in weighings)


async def test_one_authorisation_in_many_threads_is_decided_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [f"t{nth}" for nth in range(FLOWS)]
    meet_after(monkeypatch, settle, "point_now", FLOWS)
    outs = await asyncio.gather(*(desk.ask(QUIET, each) for each in threads))
    assert sorted(out["outcome"]["status"] for out in outs) == ["approved"] + ["decided_before"] * (FLOWS - 1)
    assert len(await desk.decisions()) == 1
    assert desk.weighed == FLOWS


async def test_a_card_is_held_once_and_its_other_authorisations_are_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others had decided rests on the card being active: they are planned anew."""
    requests = {f"AU-{nth}": {**RISKY, "authorisation_id": f"AU-{nth}"} for nth in range(8)}
    await asyncio.gather(*(desk.ask(each, name) for name, each in requests.items()))
    meet_after(monkeypatch, settle, "point_now", len(requests))
    outs = await asyncio.gather(*(desk.say(block=True, thread=name) for name in requests))
    assert sorted(out["outcome"]["status"] for out in outs) == ["blocked"] + ["refused"] * 7
    assert await desk.check(requests) == 1


async def test_a_threshold_that_is_passed_while_the_model_thinks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is not used: signals are read again and weighed once more, which is another question."""
    once_after(monkeypatch, review, "_ask", lambda: desk.ingest(*(used("C-1001") for _ in range(4))))
    await desk.ask(QUIET)
    (row,) = await desk.decisions()
    assert (row["risk"], desk.weighed) == (30, 2)
    assert await desk.check({"AU-1": QUIET}) == 1


@pytest.mark.parametrize("desk", [0], indirect=True)
async def test_a_threshold_that_is_passed_between_the_guard_and_the_commit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_after(monkeypatch, settle, "point_now", lambda: desk.ingest(*(used("C-1001") for _ in range(4))))
    await desk.ask(QUIET)
    (row,) = await desk.decisions()
    assert (row["risk"], row["point"], row["settled_point"]) == (30, 2, 2)
    assert await desk.check({"AU-1": QUIET}) == 1


@pytest.mark.parametrize("desk", [0, 0.25], indirect=True)
async def test_events_of_the_card_that_pass_no_threshold_run_nothing_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the model thinks, and again while the decision is written."""
    once_after(monkeypatch, review, "_ask", lambda: desk.ingest(used("C-1001"), sighted("D-1001", "C-1001")))
    once_after(monkeypatch, settle, "point_now", lambda: desk.ingest(used("C-1001"), sighted("D-1001", "C-1002")))
    await desk.ask(QUIET)
    assert await desk.runs("t") == {"steps": 4, "tasks": 7, "again": 0}
    assert desk.weighed == 1
    assert await desk.check({"AU-1": QUIET}) == 1


@pytest.mark.parametrize("desk", [0], indirect=True)
async def test_a_model_is_paid_once_if_what_it_was_asked_about_is_the_same_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold is passed before the verdict commits, and passed back before the node runs again."""
    read, calls = review.levels_now, 0

    async def passed_back(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await desk.ingest(opened(-300_000))
        return await read(*args)

    monkeypatch.setattr(review, "levels_now", passed_back)
    once_after(monkeypatch, review, "_ask", lambda: desk.ingest(opened(300_000)))
    await desk.ask(QUIET)
    (weighing,) = [step for step in await desk.saver.asteps("t") if step.nodes == ["review"]]
    assert (weighing.drifts, weighing.llm_reused, desk.weighed, calls) == (1, 1, 1, 2)
    assert await desk.check({"AU-1": QUIET}) == 1


async def test_nobody_is_asked_what_has_moved_since_it_was_weighed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold is passed between `review` and `human`: the first question is the new one."""
    read, moved = human.levels_now, []

    async def moving(*args: Any) -> Any:
        if not moved:
            moved.append(True)
            await desk.ingest(sighted("D-77", "C-1020"), sighted("D-77", "C-1021"))
        return await read(*args)

    monkeypatch.setattr(human, "levels_now", moving)
    asked = question(await desk.ask(RISKY))
    assert (asked["risk"], asked["facts_changed"], desk.weighed) == (95, True, 2)


async def test_a_question_of_many_flows_moves_for_all_of_them(desk: Desk) -> None:
    requests = {f"AU-{nth}": {**RISKY, "authorisation_id": f"AU-{nth}"} for nth in range(4)}
    await asyncio.gather(*(desk.ask(each, name) for name, each in requests.items()))
    await desk.ingest(sighted("D-77", "C-1020"), sighted("D-77", "C-1021"))
    outs = await asyncio.gather(*(desk.say(block=True, thread=name) for name in requests))
    assert all(question(out)["facts_changed"] for out in outs)
    assert await desk.decisions() == []
