"""Shared values, for programs: outside of any super-step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.encryption import sealing
from superstep.checkpointer.shared import outside

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.shared.outside import SharedUpdate
    from superstep.checkpointer.shared.reductions import Seal

__all__ = ["SharedValues"]


class SharedValues:
    """What a saver says of values that all threads share. Inside of a node use `Step.shared` and `Step.reduce`."""

    database: Database
    serde: SerializerProtocol

    async def ashared(self, name: str, key: str) -> Any:
        """A shared value as it is now; its default or `None` if it was never written to.

        Raises:
            SharedUnknown: the name is not declared in this process.
            SharedOutdated: what is stored does not fit the declaration.
        """
        return await self.database.home.call(outside.read(self.database, self._seal, name, key))

    async def areduce(self, name: str, key: str, update: Any) -> None:
        """Merge an update into a shared value, in a transaction of its own: for seeds and scripts.

        Raises:
            UpdateInvalid: it cannot be merged, or the model refuses what comes out.
            SwapRefused: it expected another value.
            SharedUnknown: the name is not declared in this process.
            SharedOutdated: what is stored does not fit the declaration.
            DatabaseUnavailable: the connection was lost, and whether it was merged is not known.
        """
        await self.database.home.call(outside.reduce(self.database, self._seal, name, key, update))

    async def ashared_history(self, name: str, key: str, *, after: int = 0, limit: int = 100) -> list[SharedUpdate]:
        """Updates of a shared value, oldest first. A page costs as much as it has updates, wherever it begins.

        Args:
            name: of the value; it need not be declared.
            key: its key.
            after: only those with a greater version: that of the last one of the page before.
            limit: how many at most.
        """
        found = outside.history(self.database, self._seal, name, key, after, limit)
        return await self.database.home.call(found)

    async def ashared_keys(self, name: str, *, after: str = "", limit: int = 100) -> list[tuple[str, int]]:
        """Keys of the shared values of a name, in their order, each with how many updates its value has had."""
        return await self.database.home.call(outside.keys(self.database, name, after, limit))

    async def adelete_shared(self, name: str, key: str) -> bool:
        """Delete a shared value with its history; whether there was one. The next update begins anew.

        Deleting a thread does not do it: what a thread has put into a shared value is everybody's.
        """
        return await self.database.home.call(outside.forget(self.database, name, key))

    @property
    def _seal(self) -> Seal:
        return sealing(self.serde)
