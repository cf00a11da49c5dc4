"""What must hold after a round, whoever was killed in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.soak.verdict import Left, calls, chains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.soak.fleet.plan import FleetPlan
    from tests.soak.fleet.receiver import Receiver

__all__ = ["FleetLeft", "judge_fleet"]

_MOST = 12  # problems of a kind that are told
_NODES = ("plan", "act")


@dataclass
class FleetLeft:
    """What a round has left.

    Attributes:
        receiver: of the effects.
        threads: what the workers' books and the saver's tables say.
        runs: all of them.
        effects: the outbox, in the order of commits.
        ledger: lines that nodes have written, in their order.
        drawn: what they have added to accounts.
    """

    receiver: Receiver
    threads: Left = field(default_factory=lambda: Left([]))
    runs: list[Any] = field(default_factory=list)
    effects: list[Any] = field(default_factory=list)
    ledger: list[tuple[str, int, str]] = field(default_factory=list)
    drawn: int = 0

    async def look(self, conn: Any) -> None:
        """At the database."""
        await self.threads.look_at_threads(conn)
        self.runs = await conn.fetch("SELECT thread_id, state, delivery, nr FROM runtime.queued_run ORDER BY nr")
        self.effects = await conn.fetch("SELECT id, key, state FROM runtime.effect ORDER BY seq")
        self.ledger = [tuple(row) for row in await conn.fetch("SELECT thread, nr, node FROM ledger ORDER BY seq")]
        self.drawn = await conn.fetchval("SELECT sum(balance) FROM account")


def judge_fleet(plan: FleetPlan, left: FleetLeft) -> list[str]:
    """What is wrong, and nothing if nothing is."""
    runs = [plan.thread(at) for at in range(plan.runs)]
    question = "{} run {}".format
    left.threads.logs = {thread: [] for thread, _ in runs}
    for thread, nr in runs:
        left.threads.logs[thread].append({"asked": [question(thread, nr)]})
    judges: tuple[Callable[[], Iterable[str]], ...] = (
        lambda: _runs(runs, left),
        lambda: _ledger(runs, left),
        lambda: _effects(plan, runs, left),
        lambda: _lines(left),
        lambda: chains(left.threads),
        lambda: calls(left.threads),
    )
    found = []
    for judge in judges:
        problems = list(judge())
        found += problems[:_MOST] + ([f"... and {len(problems) - _MOST} more"] if len(problems) > _MOST else [])
    return found


def _runs(runs: list[tuple[str, int]], left: FleetLeft) -> Iterable[str]:
    """All are there, and have completed."""
    if Counter(row["thread_id"] for row in left.runs) != Counter(thread for thread, _ in runs):
        yield f"{len(left.runs)} runs are there, and {len(runs)} were submitted"
    for row in left.runs:
        if row["state"] != "completed":
            yield f"run {row['nr']} of {row['thread_id']} is {row['state']}, given out {row['delivery']} times"


def _ledger(runs: list[tuple[str, int]], left: FleetLeft) -> Iterable[str]:
    """Each node of each run has written once, and those of a thread in their order."""
    wrote = Counter(left.ledger)
    expected = {(thread, nr, node) for thread, nr in runs for node in _NODES}
    yield from (f"lost: {each}" for each in sorted(expected - set(wrote)))
    yield from (f"written {times} times: {each}" for each, times in wrote.items() if times > 1 or each not in expected)
    if left.drawn != sum(wrote.values()):
        yield f"accounts hold {left.drawn}, and the ledger has {sum(wrote.values())} lines"
    of_thread = defaultdict(list)
    for thread, nr, node in left.ledger:
        of_thread[thread].append((nr, _NODES.index(node)))
    yield from (
        f"not in their order: {lines} of {thread}" for thread, lines in of_thread.items() if lines != sorted(lines)
    )


def _effects(plan: FleetPlan, runs: list[tuple[str, int]], left: FleetLeft) -> Iterable[str]:
    """Each effect of each run is there once, is delivered, and was handled once; nothing else was."""
    expected = {(thread, nr, n) for thread, nr in runs for n in range(plan.effects)}
    handled = Counter((each["thread"], each["nr"], each["n"]) for each in left.receiver.handled.values())
    yield from (f"an effect was not handled: {each}" for each in sorted(expected - set(handled)))
    yield from (
        f"an effect was handled {times} times: {each}"
        for each, times in handled.items()
        if times > 1 or each not in expected
    )
    known = {row["id"] for row in left.effects}
    yield from (f"effect {each} was handled, and never committed" for each in set(left.receiver.handled) - known)
    yield from (f"effect {row['id']} is {row['state']}" for row in left.effects if row["state"] != "delivered")


def _lines(left: FleetLeft) -> Iterable[str]:
    """Effects of one key were first handled in the order of their commits."""
    order = {identity: at for at, identity in enumerate(left.receiver.handled)}
    latest: dict[str, int] = {}
    for row in left.effects:
        if row["key"] is not None and row["id"] in order:
            if order[row["id"]] < latest.get(row["key"], -1):
                yield f"effect {row['id']} of {row['key']} was handled before one that stands before it"
            latest[row["key"]] = max(latest.get(row["key"], -1), order[row["id"]])
