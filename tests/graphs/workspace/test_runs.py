"""Whole runs of the workspace flow: what is merged, and what sends an agent back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep.checkpointer import TransactionalSaver
from superstep.graphs import workspace
from superstep.graphs.workspace import code, land, review, seed
from superstep.runtime.faults import InputInvalid
from tests.graphs.workspace.conftest import statuses
from tests.support.desks import at

if TYPE_CHECKING:
    from tests.graphs.workspace.conftest import Desk

VAT, DISCOUNT = "Set VAT to 21 in prices.py.", "Set MAX_DISCOUNT to 40 in prices.py."
LIMIT = "Set LARGEST_DISCOUNT to 80 in test_prices.py."


async def test_setup_may_run_anywhere_any_number_of_times(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as first,
        TransactionalSaver.from_conn_string(database_url) as second,
    ):
        await first.setup()
        await asyncio.gather(*(workspace.setup(each) for each in (first, second) * 4))
        async with first.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM workspace.file") == len(seed.FILES)


async def test_two_agents_on_one_file(desk: Desk) -> None:
    """Both land in one super-step, the second one on top of the first. No model is asked for that."""
    out = await desk.run(VAT, DISCOUNT)
    assert statuses(out) == ["merged", "merged"]
    prices = (await desk.files())["prices.py"]
    assert "VAT = 21\n" in prices
    assert "MAX_DISCOUNT = 40\n" in prices
    assert await desk.check_history() == 2
    assert Counter(desk.asked) == {"Patch": 2, "Verdict": 2}
    landed = (await desk.saver.asteps("t"))[-1]
    assert (landed.nodes, landed.drifts) == (["land"], 0)
    json.dumps(out)


async def test_the_example_runs(desk: Desk) -> None:
    assert set(statuses(await desk.flow.ainvoke(workspace.example_input(), at("t")))) <= {"merged", "nothing"}


async def test_two_agents_on_one_line(desk: Desk) -> None:
    """The later one is told by the conflict what was merged meanwhile, and edits again."""
    out = await desk.run("Set VAT to 7 in prices.py.", "Set VAT to 21 in prices.py.")
    assert statuses(out) == ["merged", "merged"]
    later = out["changes"]["agent-2"]
    assert later["rounds"] == 2
    assert "prices.py, line 3: merged meanwhile was\nVAT = 7" in later["feedback"]
    assert "VAT = 21\n" in (await desk.files())["prices.py"]
    assert await desk.check_history() == 2
    assert Counter(desk.asked) == {"Patch": 3, "Verdict": 3}


async def test_the_reviewer_asks_for_changes(desk: Desk) -> None:
    out = await desk.run("Replace `VAT = 19` by `VAT = 21  # TODO: ask` in prices.py.")
    assert statuses(out) == ["merged"]
    assert out["changes"]["agent-1"]["rounds"] == 2
    assert "VAT = 21\n" in (await desk.files())["prices.py"]


async def test_failing_tests_send_the_agent_back(desk: Desk) -> None:
    out = await desk.run("Set MAX_DISCOUNT to 90 in prices.py.")
    assert statuses(out) == ["merged"]
    assert "FAILED" in out["changes"]["agent-1"]["feedback"]
    assert "MAX_DISCOUNT = 45\n" in (await desk.files())["prices.py"]
    assert await desk.check_history() == 1


async def test_an_agent_that_never_passes_gives_up_and_merges_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "MAX_ROUNDS", 2)
    out = await desk.run("Replace `VAT = 19` by `VAT = None` in prices.py.")
    assert statuses(out) == ["given_up"]
    assert out["changes"]["agent-1"]["rounds"] == 2
    assert await desk.files() == seed.FILES


async def test_nothing_to_change(desk: Desk) -> None:
    out = await desk.run("Set VAT to 19 in prices.py.", "Make it faster.")
    assert statuses(out) == ["nothing", "nothing"]
    assert await desk.files() == seed.FILES


async def test_an_edit_that_does_not_fit_is_fed_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [("prices.py", "no such text"), ("../prices.py", ""), ("prices.py", "VAT = 19")]

    def answer(request: Any) -> Any:
        if request.schema_name == "Verdict":
            return desk.answer(request)
        path, old = replies.pop(0)
        return {"edits": [{"path": path, "old": old, "new": "VAT = 20"}], "note": "done"}

    monkeypatch.setattr(code.rules, "answer", answer)
    out = await desk.run("Whatever.")
    assert statuses(out) == ["merged"]
    assert out["changes"]["agent-1"]["rounds"] == 3


async def test_tasks_of_an_earlier_run_are_not_kept(desk: Desk) -> None:
    await desk.run(VAT, DISCOUNT)
    assert statuses(await desk.run("Set VAT to 7 in prices.py.")) == ["merged"]


@pytest.mark.parametrize("tasks", [None, [], "Set VAT", [1], [""]])
async def test_malformed_tasks(desk: Desk, tasks: Any) -> None:
    with pytest.raises(InputInvalid, match="tasks"):
        await desk.flow.ainvoke({"tasks": tasks}, at("t"))


async def test_a_human_decides_on_changes_of_tests(desk: Desk) -> None:
    (asked,) = (await desk.run(LIMIT))["__interrupt__"]
    assert "+LARGEST_DISCOUNT = 80" in asked.value["diff"]
    (again,) = (await desk.flow.ainvoke(Command(resume="well"), at("t")))["__interrupt__"]
    assert "not understood" in again.value["problem"]
    assert await desk.files() == seed.FILES
    out = await desk.flow.ainvoke(Command(resume=True), at("t"))
    assert statuses(out) == ["merged"]
    assert Counter(desk.asked) == {"Patch": 1, "Verdict": 1}


async def test_a_human_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MAX_ROUNDS", 1)
    await desk.run(LIMIT)
    out = await desk.flow.ainvoke(Command(resume={"approved": False, "note": "Sixty is plenty."}), at("t"))
    assert statuses(out) == ["given_up"]
    assert out["changes"]["agent-1"]["note"] == "Sixty is plenty."
    assert await desk.files() == seed.FILES


async def test_a_human_is_asked_again_if_the_file_has_changed_and_not_for_others(desk: Desk) -> None:
    tests = seed.FILES["test_prices.py"]
    await desk.run(LIMIT)
    await desk.merge("stock.py", "SHELVES = 1\n")
    await desk.merge("test_prices.py", tests.replace("class Prices", "class Discounts"))
    (asked,) = (await desk.flow.ainvoke(Command(resume=True), at("t")))["__interrupt__"]
    assert asked.value["facts_changed"]
    assert " class Discounts(unittest.TestCase):" in asked.value["diff"]
    await desk.merge("stock.py", seed.FILES["stock.py"])
    out = await desk.flow.ainvoke(Command(resume=True), at("t"))
    assert statuses(out) == ["merged"]
    assert await desk.check_history() == 4


async def test_a_diff_that_moves_between_review_and_merge_is_reviewed_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge of somebody else beside the edit: it fits, but what would be merged is not what was read."""
    read, moved = land.head, []

    async def head(step: Any) -> int:
        if not moved:
            moved.append(True)
            await desk.merge("prices.py", seed.FILES["prices.py"].replace('"""Prices, in cents."""', '"""Prices."""'))
        return await read(step)

    monkeypatch.setattr(land, "head", head)
    assert statuses(await desk.run(VAT)) == ["merged"]
    assert Counter(desk.asked) == {"Patch": 1, "Verdict": 2}
    assert await desk.check_history() == 2


async def test_a_merge_elsewhere_is_not_reviewed_again_but_tested_with(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, moved = review.head, []

    async def head(step: Any, *, validate: bool) -> int:
        found = await read(step, validate=validate)
        if not moved:
            moved.append(True)
            await desk.merge("stock.py", seed.FILES["stock.py"].replace("SHELVES = 12", "SHELVES = 13"))
        return found

    monkeypatch.setattr(review, "head", head)
    assert statuses(await desk.run(VAT)) == ["merged"]
    assert Counter(desk.asked) == {"Patch": 1, "Verdict": 1}
    assert await desk.check_history() == 2
