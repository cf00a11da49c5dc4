"""Many flows on the same files at once. Whatever order they land in, the history is what was reviewed and tested."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

from superstep.graphs.workspace import land
from tests.graphs.workspace.conftest import statuses
from tests.support.desks import meet_after

if TYPE_CHECKING:
    import pytest

    from tests.graphs.workspace.conftest import Desk

FLOWS = 16


async def many_numbers(desk: Desk) -> None:
    """A file with a number for each flow, far enough from each other to be merged, and one for all of them."""
    lines = [f"N{n} = 0\n\n\n\n\n\n\n\n" for n in range(2 * FLOWS)]
    await desk.merge("numbers.py", "ALL = 0\n\n\n\n\n\n\n\n" + "".join(lines))


async def test_edits_of_one_file_in_different_places_are_all_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two agents in each of 16 flows: 32 merges, one after the other, and no model is asked more than for one alone."""
    await many_numbers(desk)
    meet_after(monkeypatch, land, "head", FLOWS)
    outs = await asyncio.gather(
        *(
            desk.run(
                f"Set N{2 * n} to {n + 1} in numbers.py.", f"Set N{2 * n + 1} to {n + 1} in numbers.py.", thread=f"t{n}"
            )
            for n in range(FLOWS)
        )
    )
    assert Counter(status for out in outs for status in statuses(out)) == {"merged": 2 * FLOWS}
    assert await desk.check_history() == 2 * FLOWS + 1
    numbers = re.findall(r"^N(\d+) = (\d+)$", (await desk.files())["numbers.py"], re.MULTILINE)
    assert numbers == [(str(n), str(n // 2 + 1)) for n in range(2 * FLOWS)]
    assert Counter(desk.asked) == {"Patch": 2 * FLOWS, "Verdict": 2 * FLOWS}


async def test_edits_of_one_line_come_one_after_the_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flow also has an edit of its own, which no conflict about the other one may cost."""
    flows = 4
    await many_numbers(desk)
    meet_after(monkeypatch, land, "head", flows)
    outs = await asyncio.gather(
        *(
            desk.run(f"Set ALL to {n + 1} in numbers.py.", f"Set N{n} to 1 in numbers.py.", thread=f"t{n}")
            for n in range(flows)
        )
    )
    assert Counter(status for out in outs for status in statuses(out)) == {"merged": 2 * flows}
    assert await desk.check_history() == 2 * flows + 1
    history = [files["numbers.py"].splitlines()[0] for _, files in (await desk.history())[1:]]
    values = [line for line, before in zip(history[1:], history, strict=False) if line != before]
    assert sorted(values) == [f"ALL = {n + 1}" for n in range(flows)]
    assert (await desk.files())["numbers.py"].count(" = 1\n") >= flows


async def test_merges_that_pass_alone_and_fail_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is tested on what it is merged on, so the second one to land sees the first one's limit."""
    meet_after(monkeypatch, land, "head", 2)
    prices = "MAX_DISCOUNT"
    await desk.merge(
        "test_sum.py",
        "import unittest, prices, stock\nclass Sum(unittest.TestCase):\n    def test(self):\n"
        f"        self.assertLess(prices.{prices} + stock.SHELVES, 70)\n",
    )
    outs = await asyncio.gather(
        desk.run("Set MAX_DISCOUNT to 50 in prices.py.", thread="a"),
        desk.run("Set SHELVES to 36 in stock.py.", thread="b"),
    )
    assert [statuses(out) for out in outs] == [["merged"], ["merged"]]
    assert sorted(out["changes"]["agent-1"]["rounds"] for out in outs) == [1, 2]
    assert await desk.check_history() == 3
