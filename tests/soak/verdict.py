"""What must hold after a round, whatever has died in it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.isolation.checker import Transaction, check
from tests.isolation.tasks import Keys, transaction_of

if TYPE_CHECKING:
    import asyncpg

    from tests.isolation.tasks import Shape
    from tests.soak.plan import Plan

__all__ = ["Left", "calls", "chains", "judge"]

_MOST = 12  # problems of a kind that are told
_ANSWER = re.compile(rb"answer to <([^>]*)>")
# A chain: one checkpoint has no parent, every other one has the one before it, and no two have the same.
_CHECKPOINTS = """
SELECT c.thread_id, c.ns, c.checkpoint_id, c.parent_id, (c.metadata ->> 'step')::int AS step, p.checkpoint_id AS found,
       (p.metadata ->> 'step')::int AS step_before, c.stats IS NOT NULL AS is_step, t.head,
       count(*) OVER (PARTITION BY c.thread_id, c.ns, c.parent_id) AS siblings
FROM runtime.checkpoint c JOIN runtime.thread t USING (thread_id)
LEFT JOIN runtime.checkpoint p ON (p.thread_id, p.ns, p.checkpoint_id) = (c.thread_id, c.ns, c.parent_id)
"""


@dataclass
class Left:
    """What a round has left: in the books of its processes, and in the database.

    Attributes:
        threads: all of them.
        logs: what those that ended say they have done.
        paid: calls of models by question and the fencing token of the run that paid.
        got: the same for answers that nodes got, which are durable by then.
        wrote: transactions of the programs beside, by their value.
        committed: the values of those that know it.
        lists: what the lists hold.
        sets: what the sets hold.
        checkpoints: all of them.
        answers: how often each question's answer is stored.
        recorded: calls of models that are recorded, by thread.
    """

    threads: list[str]
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    paid: list[tuple[str, int]] = field(default_factory=list)
    got: set[tuple[str, int]] = field(default_factory=set)
    wrote: dict[int, dict[str, Any]] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    lists: dict[str, tuple[int, ...]] = field(default_factory=dict)
    sets: dict[str, frozenset[int]] = field(default_factory=dict)
    checkpoints: list[asyncpg.Record] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)

    def note(self, line: dict[str, Any]) -> None:
        """A line of a book."""
        match line["what"]:
            case "ended":
                if self.logs.setdefault(line["thread"], line["log"]) != line["log"]:
                    self.contradictions.append(f"{line['thread']} ended in two states")
            case "paid":
                self.paid.append((line["question"], line["token"]))
            case "got":
                self.got.add((line["question"], line["token"]))
            case "wrote":
                self.wrote[line["value"]] = line
            case "committed":
                self.committed.add(line["value"])

    async def look(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        """At the database."""
        self.lists = {row[0]: tuple(row[1]) for row in await conn.fetch("SELECT key, vals FROM list_of")}
        sets: dict[str, set[int]] = defaultdict(set)
        for key, value in await conn.fetch("SELECT key, val FROM member"):
            sets[key].add(value)
        self.sets = {key: frozenset(values) for key, values in sets.items()}
        await self.look_at_threads(conn)

    async def look_at_threads(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        """At what every saver has."""
        self.checkpoints = await conn.fetch(_CHECKPOINTS)
        for (answer,) in await conn.fetch("SELECT answer FROM runtime.llm_call"):
            if (found := _ANSWER.search(answer)) is not None:
                self.answers[found[1].decode()] += 1
        recorded = await conn.fetch("SELECT thread_id, count(*) FROM runtime.model_call GROUP BY 1")
        self.recorded = Counter({row[0]: row[1] for row in recorded})

    @property
    def steps(self) -> int:
        """Super-steps that are committed."""
        return sum(row["is_step"] for row in self.checkpoints)


def judge(plan: Plan, left: Left) -> list[str]:
    """What is wrong, and nothing if nothing is."""
    found = list(left.contradictions)
    for problems in (_steps(plan.shape, left), chains(left), _writes(plan, left), calls(left)):
        found += problems[:_MOST] + ([f"... and {len(problems) - _MOST} more"] if len(problems) > _MOST else [])
    return found


def _steps(shape: Shape, left: Left) -> list[str]:
    """Every task of every round of every thread, once."""
    names = [f"task{at}" for at in range(shape.siblings)] + ["inner"] * shape.nested
    found = []
    for thread in left.threads:
        expected = {f"{thread} {name} with {1 + at} left" for name in names for at in range(shape.rounds)}
        done = Counter(entry["name"] for entry in left.logs.get(thread, ()))
        found += [f"lost: {name}" for name in sorted(expected - set(done))]
        found += [f"done {done[name]} times: {name}" for name in done if done[name] > 1 or name not in expected]
    return found


def chains(left: Left) -> list[str]:
    """One chain for each namespace of each thread, and the head at its end."""
    found, roots = [], Counter[tuple[str, str]]()
    parents = {(row["thread_id"], row["ns"], row["parent_id"]) for row in left.checkpoints}
    for row in left.checkpoints:
        where = f"{row['checkpoint_id']} of {row['thread_id']} {row['ns']!r}"
        if row["parent_id"] is None:
            roots[row["thread_id"], row["ns"]] += 1
            continue
        if row["siblings"] > 1:
            found.append(f"a fork: {where} and another one after {row['parent_id']}")
        if row["found"] is None:
            found.append(f"a gap: {where} has no parent {row['parent_id']}")
        elif row["step"] != row["step_before"] + 1:
            found.append(f"a jump: {where} is step {row['step']} after {row['step_before']}")
    found += [f"{count} beginnings of {where}" for where, count in roots.items() if count > 1]
    found += [
        f"the head of {row['thread_id']} is {row['head']}, and not {row['checkpoint_id']}"
        for row in left.checkpoints
        if not row["ns"]
        and (row["thread_id"], row["ns"], row["checkpoint_id"]) not in parents
        and row["checkpoint_id"] != row["head"]
    ]
    return found


def _writes(plan: Plan, left: Left) -> list[str]:
    """What is written is what committed super-steps and programs have written, once, and in some serial order."""
    history = [transaction_of(entry) for log in left.logs.values() for entry in log]
    there = {value for values in left.lists.values() for value in values}
    for value, wrote in left.wrote.items():
        if value in there or value in left.committed:
            reads = {wrote["read"]: tuple(wrote["seen"])}
            history.append(Transaction(f"program's {value}", lists=reads, appended=[(wrote["key"], value)]))
    sets = {key: left.sets.get(key, frozenset()) for key in Keys.of(plan.shape).sets}
    return [f"{found.kind.value}: {found.what}" for found in check(history, left.lists, sets)]


def calls(left: Left) -> list[str]:
    """No call is paid whose answer was durable, none twice by one run, and what is paid and committed is stored.

    The fencing token orders the runs of a thread. What a run has got was stored while it owned the thread, before any
    later run took it: so no later run may pay for it. One that was fenced may, once, not knowing yet.
    """
    found = []
    earliest: dict[str, int] = {}
    for question, token in left.got:
        earliest[question] = min(token, earliest.get(question, token))
    for (question, token), times in Counter(left.paid).items():
        if times > 1:
            found.append(f"paid {times} times by one run: {question}")
        if token > earliest.get(question, token):
            found.append(f"paid again by run {token} after run {earliest[question]} had the answer: {question}")
    paid = {question for question, _ in left.paid}
    for log in left.logs.values():
        for question in (question for entry in log for question in entry["asked"]):
            if question not in paid:
                found.append(f"answered, and never paid: {question}")
            if left.answers[question] != 1:
                found.append(f"{left.answers[question]} stored answers to {question}")
    by_thread = Counter(_thread(question) for question, _ in left.paid)
    found += [
        f"{recorded} calls of {thread} are recorded, and {by_thread[thread]} were paid"
        for thread, recorded in left.recorded.items()
        if recorded > by_thread[thread]
    ]
    return found


def _thread(question: str) -> str:
    return question.partition(" ")[0]
