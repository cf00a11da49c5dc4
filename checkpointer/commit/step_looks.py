"""What the tasks of a super-step saw, for the measures of coherence. Pure.

A commit has proved that all facts hold in its snapshot, so that is the snapshot they are of, however often the reads
moved to another one on the way. When it was taken is known without asking: `checkpoint.created_at` is the beginning of
the transaction that commits, by the database's clock, and `BEGIN` and the snapshot are one message to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.coherence.record import Look, label_of, measured
from superstep.checkpointer.langgraph.encryption import key_name, value_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from superstep.checkpointer.step.costs import Costs
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["seen"]


def seen(effects: Sequence[Effect], costs: Costs, key: bytes | None) -> dict[str, Any]:
    """What to add to the record of a super-step. `key` is that of keyed digests."""
    return measured([look for effect in effects for look in _looks(effect, key)], costs.conflicts)


def _looks(effect: Effect, key: bytes | None) -> Iterator[Look]:
    for read in effect.reads:
        if (question := read.question) is not None:
            name, value = key_name(key, question), value_name(key, read.value)
            yield Look(effect.task_id, name, value, None, label_of(read.sql, read.args), read.after)
    for each in effect.observed:
        name, value = key_name(key, each.question), value_name(key, each.digest)
        yield Look(effect.task_id, name, value, each.as_of, label_of(each.key, ()))
