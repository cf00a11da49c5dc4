"""Ways to break the protocol: each a place where the model asks whether it is to do what the code does not.

Each has the invariant whose number its counterexample must give, and the scenario in which it is looked for.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SWITCHES", "Switch"]


class Switch(NamedTuple):
    """What is broken, which invariant must fall, and where."""

    names: tuple[str, ...]
    invariant: int
    scenario: str


def _one(name: str, invariant: int, scenario: str) -> Switch:
    return Switch((name,), invariant, scenario)


_RACE = "two flows, two steps"
_SIBLINGS = "siblings read each other's writes"
_DIES = "a process dies"
_LATE = "a paused worker wakes up late"
_LOST = "the answer to a COMMIT is lost"
_TOGETHER = "two flows commit in one transaction"
_HUMAN = "a human is asked, and the facts move"
_CALLER = "a subgraph writes what its caller has read"
_BELOW = "a caller drifts while its subgraph commits"
_TOP = "a subgraph would commit on top of a sibling"

SWITCHES = (
    _one("a new snapshot is not validated", 1, "parallel tasks share a snapshot"),
    _one("staged writes are applied at once", 2, _RACE),
    _one("writes and checkpoint are two transactions", 2, _RACE),
    _one("subgraphs that have written are forgotten", 3, _CALLER),
    _one("a commit validates nothing", 4, _RACE),
    _one("snapshot isolation", 4, _RACE),
    _one("a subgraph's writes count as changes from outside", 4, _CALLER),
    _one("answers are not remembered", 5, _DIES),
    _one("answers are used before they are stored", 5, _DIES),
    _one("who leads is forgotten", 6, _TOP),
    _one("who leads makes no difference", 6, _TOP),
    _one("an answer outlives its question", 6, _HUMAN),
    _one("nobody looks at the token", 7, _LATE),
    _one("a thread is taken back", 7, _LATE),
    _one("any head is gone on from", 7, _LATE),
    _one("a lost COMMIT is repeated without a look-up", 8, _LOST),
    _one("the look-up does not wait", 8, _LOST),
    _one("a lost COMMIT is taken for done", 8, _LOST),
    _one("hypotheses count as they are", 9, _DIES),
    _one("what a human was shown is not validated", 11, _HUMAN),
    _one("an answer is for whoever asks", 11, "a sibling comes to ask"),
    Switch(("an answer outlives its question", "an answer is for whoever asks"), 11, _HUMAN),
    _one("writes of a failed execution are kept", 12, "an execution fails and is tried again"),
    _one("results are stored before their effects", 12, _DIES),
    _one("callers are not validated", 13, _CALLER),
    _one("callers are not noted", 13, _CALLER),
    _one("subgraphs are not forgotten", 13, _CALLER),
    _one("results and subgraphs are taken back one after the other", 13, _CALLER),
    _one("nobody waits for commits below", 13, _BELOW),
    _one("subgraphs commit on top of a sibling", 13, _TOP),
    _one(
        "a subgraph commits before what is in front of it", 13, "a subgraph is entered before the commit in front of it"
    ),
    _one("commits below begin before they validate", 15, _CALLER),
    _one("siblings are not validated", 16, _SIBLINGS),
    _one("who goes on validates nothing", 4, _TOGETHER),
    _one("whoever comes may go on in a transaction", 6, _TOGETHER),
    _one("what drifts in a transaction stays in it", 2, _TOGETHER),
    _one("members are told before COMMIT", 8, _TOGETHER),
)
