"""Putting effects into the outbox, in the transaction that commits the super-step which has emitted them.

An effect has an identity: thread, namespace, the checkpoint that the super-step started from, the task, and its number
among the effects of that task. Never what it says: a model that words its call differently must not pay twice. Until
it is committed a super-step can be tried any number of times, and its effects have the same identities each time.

It also has a *place* on its branch of the thread: its number among those of its topic from its node, on the way from
the beginning of the thread to here. A thread that goes on from an old checkpoint walks a branch of its own, on which
its effects have other identities, since the checkpoints are other ones; but they come to the same places. An effect at
a place from which one was sent already, on another branch, is a repetition: refused, unless the run has chosen.

Which interleavings could break it, and what stops them:

*The commit rolls back, or is repaired.* The rows, and the jobs that tell workers of them, are in its transaction.

*The answer to COMMIT is lost.* The checkpoint tells whether it landed, before anything is applied again.

*Two runs of one thread emit at the same place.* One of them is fenced: both commits update the row of the thread.

*The effect on the other branch is delivered, dropped or given up while this transaction looks at it.* It counts as what
it was in the snapshot: as if this commit had come before that.

*The history of the branch was pruned.* What was emitted before the oldest checkpoint that is left counts as on it.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from superstep.checkpointer.effects import queries
from superstep.runtime.faults import EffectRepeated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.effects.emitted import Emitted

__all__ = ["Seal", "identity", "payload_at", "put_out"]


class Seal(Protocol):
    """Makes the serializer for a place: a column, and the key of a row."""

    def __call__(self, column: str, *key: str | int) -> SerializerProtocol:
        """See `encryption.at`."""


def identity(thread_id: str, effect: Emitted) -> str:
    """What the receiver tells repetitions by: 32 hexadecimal digits, the same however often the step is tried."""
    parts = [thread_id, effect.ns, effect.checkpoint_id, effect.task_id, effect.nth]
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def payload_at(seal: Seal, effect_id: str) -> SerializerProtocol:
    """The serializer for the payload of an effect."""
    return seal("payload of an effect", effect_id)


async def put_out(
    conn: Connection, schema: str, seal: Seal, thread_id: str, effects: Iterable[Emitted], choice: str | None
) -> list[str]:
    """Put effects into the outbox: the identities of those that are to be delivered.

    Args:
        conn: in a SERIALIZABLE transaction.
        schema: of the saver, unquoted.
        seal: of the saver.
        thread_id: the thread.
        effects: of one task, in their order.
        choice: see `RunOptions.effects`.

    Raises:
        EffectRepeated: one was sent already from another branch of the thread, and `choice` is `None`.
    """
    to_deliver = []
    for effect in effects:
        effect_id = identity(thread_id, effect)
        kind, payload = payload_at(seal, effect_id).dumps_typed(effect.document)
        put = await queries.put_out(conn, schema, effect_id, thread_id, effect, (kind, payload), choice)
        if put.state == "waiting":
            to_deliver.append(effect_id)
        elif put.state is None:
            raise EffectRepeated(
                f"{effect.node!r} of thread {thread_id!r} has come to an effect ({effect.topic!r}) that was sent "
                f"already, before the thread was set back: {put.sent}. Nothing of the super-step was committed. Run "
                f'the thread again with input None and effects="keep" (that one counts, nothing is sent) or '
                f'effects="again" (it is sent once more).',
                effect=put.sent or "",
                topic=effect.topic,
                task=effect.node,
            )
    return to_deliver
