"""Which super-steps may commit in one transaction with others, each in a subtransaction of its own (`step.shared`).

Those of outermost graphs: a caller of a subgraph may drift meanwhile.

Nobody goes on in a transaction in which a statement was staged that is no INSERT, UPDATE, DELETE or MERGE: what it sets
is meant for that super-step. Nor in one without the subtransaction that the next one's begins in place of.

Nor in a database with deferrable constraints or triggers. What is deferred runs at COMMIT, and would see the writes of
those that came after: an audit would log their balances, and a reference that points nowhere be accepted because a
later one fills it. It is looked once for each transaction, when the first one hands it on. Who makes a deferrable
trigger in that moment, on a table that nobody in the transaction has written to yet, finds it late for those after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.commit.order import Turn
    from superstep.checkpointer.step.read_set import Effect
    from superstep.checkpointer.step.superstep import SuperStep

__all__ = ["may_hand_on", "may_share"]

_HAS_DEFERRABLE = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgdeferrable)"


def may_share(step: SuperStep) -> bool:
    """Whether the super-step may be one of several in a transaction."""
    return not step.snapshot.asks_again and not step.collided


async def may_hand_on(step: SuperStep, effects: Sequence[Effect], turn: Turn) -> bool:
    """Whether another one may go on in its transaction, and waits for its turn."""
    snapshot = step.snapshot
    if not snapshot.protection.is_on or not turn.may_hand_on(snapshot.began, snapshot.members):
        return False
    if not all(staged.writes_rows for effect in effects for staged in effect.staged):
        return False
    if snapshot.members == 1 and await snapshot.connection.fetchval(_HAS_DEFERRABLE):
        turn.may_not_share()
        return False
    return turn.may_hand_on(snapshot.began, snapshot.members)  # whoever waited may have gone meanwhile
