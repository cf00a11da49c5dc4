"""Effects and answers, for programs: the outbox, what a worker needs to deliver effects, and sending answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.encryption import opened_text, sealed_text, sealing
from superstep.checkpointer.langgraph.sealed import HIDDEN
from superstep.runtime.faults import ValueNotAuthentic

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.effects.jobs import Handler
    from superstep.checkpointer.effects.outbox import Outbox
    from superstep.checkpointer.effects.queue import Queue

__all__ = ["EffectsOfSaver"]

_COLUMN = "failure of an effect"


class EffectsOfSaver:
    """What a saver says of effects and answers."""

    database: Database
    serde: SerializerProtocol

    @property
    def queue(self) -> Queue:
        """The queue in the saver's schema. Use it on the saver's event loop."""
        from superstep.checkpointer.effects.queue import Queue

        return Queue(self.database)

    @property
    def outbox(self) -> Outbox:
        """The effects of all threads. Use it on the saver's event loop."""
        from superstep.checkpointer.effects.outbox import Outbox

        return Outbox(self.database, partial(_shown, self.serde))

    async def asend(
        self,
        conn: asyncpg.Connection[asyncpg.Record],
        thread: str,
        value: Any,
        *,
        interrupt: str | None = None,
    ) -> str:
        """Answer a question in a transaction of yours. See `superstep.asend`, which needs no saver."""
        from superstep.checkpointer.fleet.sending import asend

        return await asend(conn, thread, value, interrupt=interrupt, schema=self.database.schema, serde=self.serde)

    def effect_handlers(self) -> Mapping[str, Handler]:
        """What a worker of the queue needs to deliver effects, for `Queue.work`: by kind of job."""
        from superstep.checkpointer.effects.delivery import KIND, Deliveries

        serde: Any = self.serde
        hide = partial(_hidden, serde)
        return {KIND: Deliveries(self.database, self.queue, sealing(serde), hide)}


def _shown(serde: SerializerProtocol, text: str, effect_id: str) -> str:
    """The failure; one that was stored with another key keeps no other from being listed."""
    try:
        return opened_text(serde, text, _COLUMN, effect_id)
    except ValueNotAuthentic:
        return HIDDEN


def _hidden(serde: SerializerProtocol, text: str, effect_id: str) -> str:
    return sealed_text(serde, text, _COLUMN, effect_id)
