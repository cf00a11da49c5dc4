"""Updates of shared values, merged in the transaction that commits the super-step which made them.

A value is read under its row's lock, the super-step's updates are added in their order, and what comes out is stored
beside a row for each update. All of a super-step's updates of one value are one fold, whichever tasks they are of, so
the reducer knows which of them met.

Which interleavings could break it, and what stops them:

*Another transaction changes the value between our read of it and our write.* It cannot: the row is locked. One that has
changed it after our snapshot was taken, or holds the lock and commits, makes the locking read fail with 40001 (first
updater wins, at any page and whatever SSI remembers). The commit is then repaired: repeated in a fresh snapshot, with
the same results. No node runs again, since what it did does not depend on the value.

*Two insert the first row of a key.* Neither finds one to lock. The second to insert waits for the first at the primary
key, and fails with 40001 when that has committed, or inserts when that has not.

*Two lock two values in opposite orders*, one key each in two groups of updates with an SQL statement between them: a
deadlock, which Postgres ends with 40P01. Repaired as above. Within one group keys are locked in their order.

*The answer to COMMIT is lost, or the process dies.* Value, log and checkpoint are one transaction; whether it is there
is asked of the checkpoint, before anything is applied again.

*Several super-steps share the transaction.* Each is in a subtransaction, after those before it, and sees their values.
Rolled back alone, it takes its own updates with it.

*A version is used twice.* The log's primary key would refuse it: a lost update could not be committed unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from superstep.checkpointer.shared import queries
from superstep.checkpointer.shared.declared import Shared, declaration
from superstep.checkpointer.shared.queries import Logged, Stored, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.shared.folding import Fold

__all__ = ["Reductions", "Seal", "loaded", "update_at", "value_at"]


_MOST_SEEN = 64

# Encrypted twice, a document differs. What a task has read on top of an update must still be there when that is applied
# again, in the commit or by a subgraph that the task runs: so what was read on top of is stored by the same bytes. By
# name, key and document. One that is forgotten, or is another process's, makes the task run again.
_seen: WeakKeyDictionary[Database, dict[tuple[str, str, str], tuple[str, bytes]]] = WeakKeyDictionary()


class Seal(Protocol):
    """Makes the serializer for a place: a column, and the key of a row."""

    def __call__(self, column: str, *key: str | int) -> SerializerProtocol:
        """See `encryption.at`."""


def value_at(seal: Seal, name: str, key: str) -> SerializerProtocol:
    """The serializer for a value."""
    return seal("shared value", name, key)


def update_at(seal: Seal, name: str, key: str, version: int) -> SerializerProtocol:
    """The serializer for an update in the log."""
    return seal("shared update", name, key, version)


def loaded(serde: SerializerProtocol, kind: str | None, value: bytes | None) -> str | None:
    """The document of a stored value."""
    return None if kind is None or value is None else str(serde.loads_typed((kind, value)))


@dataclass(slots=True)
class _Open:
    """A value that the transaction has locked, on its way through the super-step."""

    declared: Shared
    before: Any
    fold: Fold
    stored: Stored
    text: str | None


class Reductions:
    """The updates of one super-step in its open transaction.

    Attributes:
        resolved: conflicts that its reducers have resolved in this transaction.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self.resolved = 0
        self._schema = database.schema
        self._seal = seal
        self._seen = _seen.setdefault(database, {})
        self._open: dict[tuple[str, str], _Open] = {}

    def clear(self) -> None:
        """What was reduced is undone."""
        self._open.clear()
        self.resolved = 0

    async def apply(
        self, conn: Connection, updates: Iterable[tuple[str, str, str]], writer: Writer | None = None
    ) -> None:
        """Merge updates, in their order: name, key and document of each.

        Args:
            conn: in a SERIALIZABLE transaction.
            updates: of one task.
            writer: the task, for the log; `None` for updates that are only read on top of.

        Raises:
            UpdateInvalid: one cannot be merged, or the model refuses what comes out.
            WriteRefused: the reducer refuses to choose.
            SharedUnknown: a name is not declared.
            SharedOutdated: a stored value does not fit its declaration.
        """
        by_place: dict[tuple[str, str], list[str]] = {}
        for name, key, text in updates:
            by_place.setdefault((name, key), []).append(text)
        for place, texts in sorted(by_place.items()):
            await self._reduce(conn, place, texts, writer)

    async def _reduce(self, conn: Connection, place: tuple[str, str], texts: list[str], writer: Writer | None) -> None:
        value = self._open.get(place)
        if value is None:
            value = self._open[place] = await self._lock(conn, *place)
        fold, logged = value.fold, list[Logged]()
        for version, text in enumerate(texts, value.stored.version + 1):
            known = len(fold.conflicts)
            fold.add(value.declared.plain(text))
            serde = update_at(self._seal, *place, version)
            logged.append(Logged(version, len(fold.conflicts) - known, *serde.dumps_typed(text)))
        after = value.declared.after(place[1], value.before, fold.value)
        kind, data = self._dumped(place, value, after, keep=writer is None)
        value.stored = Stored(logged[-1].version, value.declared.version, kind, data)
        value.text = after
        await queries.store(conn, self._schema, place, value.stored, writer, logged)
        self.resolved += sum(each.resolved for each in logged)

    async def _lock(self, conn: Connection, name: str, key: str) -> _Open:
        declared = declaration(name)
        stored = await queries.lock(conn, self._schema, name, key) or Stored(0, declared.version, None, None)
        text = loaded(value_at(self._seal, name, key), stored.kind, stored.value)
        before = declared.before(key, text, stored.form)
        fold = declared.reducer.fold(before, declared.place(key))
        return _Open(declared, before, fold, stored, text)

    def _dumped(
        self, place: tuple[str, str], value: _Open, text: str | None, *, keep: bool
    ) -> tuple[str | None, bytes | None]:
        """A document as it is stored: by the bytes that it is stored by already, if it has not changed."""
        if text is None or (text == value.text and value.stored.form == value.declared.version):
            return value.stored.kind, value.stored.value
        dumped = self._seen.get((*place, text))
        if dumped is None:
            dumped = value_at(self._seal, *place).dumps_typed(text)
            if keep:
                while len(self._seen) >= _MOST_SEEN:
                    del self._seen[next(iter(self._seen))]
                self._seen[*place, text] = dumped
        return dumped
