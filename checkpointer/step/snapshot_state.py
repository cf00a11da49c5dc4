"""The states of a snapshot, see the diagram in `snapshot`."""

from __future__ import annotations

from enum import Enum

__all__ = ["ALLOWED", "SnapshotState", "leaves_bare"]


class SnapshotState(Enum):
    """See the module."""

    __hash__ = object.__hash__  # each is one of a kind, and that of `Enum` is slow

    CLOSED = "closed"  # no connection
    BARE = "bare"  # a connection, and no transaction in it
    OPEN = "open"
    DIRTY = "dirty"


ALLOWED = {
    SnapshotState.CLOSED: frozenset({SnapshotState.BARE, SnapshotState.CLOSED}),
    SnapshotState.BARE: frozenset({SnapshotState.OPEN, SnapshotState.CLOSED}),
    SnapshotState.OPEN: frozenset(SnapshotState) - {SnapshotState.OPEN},
    SnapshotState.DIRTY: frozenset(SnapshotState),
}


def leaves_bare(error: BaseException, state: SnapshotState) -> bool:
    """Whether work on a BARE connection was cancelled: nobody can tell whether it is in a transaction of that work."""
    return state is SnapshotState.BARE and not isinstance(error, Exception)
