"""Flows that decide again: which there are, what can be compared of them, and what came of it.

A flow can be compared as far as what it decided on is what there was: facts of both runs, key by key, up to the first
super-step with staged writes, since what comes after rests on writes that a trial withholds. Where a fact has moved
since, by the flow's own writes or by others', nothing can be said of the decision: it was another question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.coherence import queries
from superstep.checkpointer.coherence.record import as_kept
from superstep.checkpointer.coherence.report import beginning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from superstep.checkpointer.database.database import Database

__all__ = ["Decided", "decided", "decided_after", "finished_threads", "have_moved", "note"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a run decided, as far as it can be compared.

    Attributes:
        checkpoint_id: of the outermost graph: the one after which the decision stands; `None` if there is none.
        at_end: the run staged nothing, so that is its end.
        facts: by key, the digests of what it saw up to there.
        observed: it also read from elsewhere.
        steps: checkpoints of all super-steps that were looked at, those of branches included.
        forked: the thread has branches, or was changed by hand, so that it is not plain what was decided.
    """

    checkpoint_id: str | None
    at_end: bool
    facts: Mapping[str, frozenset[str]]
    observed: bool
    steps: frozenset[str]
    forked: bool


def decided(steps: Sequence[tuple[str, str, Mapping[str, Any] | None]]) -> Decided:
    """What a run decided. Its super-steps in their order: namespace, checkpoint, record; none of a fork. Pure."""
    facts: dict[str, set[str]] = {}
    last: str | None = None
    wrote = observed = False
    for ns, checkpoint_id, record in steps:
        if record is None:
            continue
        kept = as_kept(record)
        for look in kept.looks:
            if look.as_of is None:
                facts.setdefault(look.key, set()).add(look.digest)
            else:
                observed = True
        wrote = wrote or bool(record.get("writes") or record.get("withheld"))
        last = checkpoint_id if ns == "" else last
        if wrote and ns == "":
            break
    return Decided(
        checkpoint_id=last,
        at_end=not wrote,
        facts={key: frozenset(digests) for key, digests in facts.items()},
        observed=observed,
        steps=frozenset(checkpoint_id for _, checkpoint_id, _ in steps),
        forked=any(record is None for *_, record in steps),
    )


def have_moved(before: Decided, now: Decided) -> bool:
    """Whether facts that both runs saw are not what they were. Pure."""
    return any(before.facts[key] != now.facts[key] for key in before.facts.keys() & now.facts.keys())


async def finished_threads(
    database: Database, *, since: timedelta | datetime, graph: str | None, most: int
) -> list[str]:
    """Threads that have completed since then, any so many of them."""
    schema = database.schema
    until = await database.autocommit(lambda conn: queries.now(conn, schema))
    window = queries.Window(beginning(since, until), until, graph)
    return await database.autocommit(lambda conn: queries.finished(conn, schema, window, most))


async def decided_after(database: Database, thread_id: str, after: str, but: Collection[str] = ()) -> Decided:
    """What a thread has decided after a checkpoint, some super-steps left out."""
    rows = await database.autocommit(lambda conn: queries.measured_of(conn, database.schema, thread_id, after))
    found = [row for row in rows if row["checkpoint_id"] not in but]
    return decided([(row["ns"], row["checkpoint_id"], row["stats"] and json.loads(row["stats"])) for row in found])


async def note(database: Database, values: Sequence[Any]) -> None:
    """Keep that a flow has decided again: see `queries.put_reconciliation`."""
    await database.autocommit(lambda conn: queries.put_reconciliation(conn, database.schema, values))
