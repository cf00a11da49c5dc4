"""The commit protocol keeps its invariants in every reachable state of small worlds; broken in any way, it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.model.explore import Counterexample, explore
from tests.model.invariants import broken
from tests.model.protocol import Model
from tests.model.scenarios import ALL
from tests.model.switches import SWITCHES

if TYPE_CHECKING:
    from tests.model.switches import Switch

MOST = 60_000

# What must have happened somewhere in a scenario: it would say nothing about a situation that it never reaches.
REACHES = {
    "two flows, two steps": ("meets another transaction", "pins: facts of [0] have moved", "gives its snapshot back"),
    "aborts for no reason": ("is aborted for no reason", "is not found"),
    "two flows commit in one transaction": (
        "hands its transaction on",
        "sends COMMIT, in a transaction of several",
        "is aborted for no reason, in a transaction of several",
        "goes on in a transaction: facts of [0] have moved in it",
        "nobody goes on in the transaction",
        "nobody hears of its COMMIT",
        "is found",
    ),
    "parallel tasks share a snapshot": ("siblings have moved facts of [1]",),
    "siblings read each other's writes": ("siblings have moved facts of [1]", "meets another transaction"),
    "a process dies": (
        "dies",
        "is given the answer it had",
        "a COMMIT nobody waits for lands",
        "stores results of [0, 1]",
    ),
    "a paused worker wakes up late": (
        "has lost the thread",
        "has lost the thread between two attempts",
        "has lost the thread before it has loaded it",
        "is told that the thread is busy",
    ),
    "the answer to a COMMIT is lost": ("is found", "is not found", "a COMMIT nobody waits for is rolled back"),
    "an execution fails and is tried again": ("fails, and is tried again",),
    "a human is asked, and the facts move": ("takes the answer", "is answered (task 0)"),
    "a sibling comes to ask": ("would take an answer not its own", "is answered (task 1)"),
    "a subgraph writes what its caller has read": ("its caller's facts have moved", "has the result of its subgraph"),
    "the answer to a subgraph's COMMIT is lost": ("subgraph step 1 is found", "sees that its caller has drifted"),
    "a caller drifts while its subgraph commits": ("begins to write", "pins: its caller's facts have moved"),
    "a subgraph is entered before the commit in front of it": ("enters its subgraph early",),
    "a subgraph would commit on top of a sibling": ("rests on a sibling's writes",),
}


@pytest.mark.parametrize("name", ALL)
def test_the_invariants_hold_in_every_state(name: str) -> None:
    explored = explore(Model(ALL[name]), broken, most=MOST)
    assert explored.ends
    for what in REACHES.get(name, ()):
        assert any(what in label for label in explored.labels), what


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: " and ".join(switch.names))
def test_a_broken_protocol_is_found_out(switch: Switch) -> None:
    with pytest.raises(Counterexample) as found:
        explore(Model(ALL[switch.scenario], switch.names), broken, most=MOST)
    assert found.value.broken.startswith(f"{switch.invariant}: "), found.value


def test_every_switch_is_tried() -> None:
    files = ("results.py", "tasks.py", "barrier.py", "together.py", "protocol.py")
    text = "".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in files)
    asked = set(re.findall(r'"([^"]+)" (?:not )?in self\.switches', text))
    assert asked == {name for switch in SWITCHES for name in switch.names}
