"""Values that grow, stored as what was added or changed. Pure.

A version of a channel's value is stored whole, or as a *difference*: which version it builds on, its *base*, and what
is to be done to that. Of a list: which runs of the base's items it keeps, and the items between them. Of a dict: the
keys that went, and those that were set. A difference is found by the marks of what was stored (`marks`), never by the
objects that were.

What holds, and why:

*A base is there as long as what builds on it.* A run takes as a base only what it has loaded, or stored in a commit
that succeeded. Whatever deletes values of a thread keeps the bases of those that stay (`sweep`), and fences the
thread's runs in the same transaction: a run whose base may be gone stores nothing any more. A version is never used
twice, so a base is what it was.

*Reading costs at most about twice as much as reading the value stored whole.* The differences on the way from a
whole value to a version are never larger together than that value is, and never more than `_MOST`; else the version is
stored whole. So a value is stored whole each time it has about doubled, and what is written for it grows with
what is added.

*There are few differences on the way.* One that ends a row of `_ROW`, which all have only added, builds on the base of
that row instead of on the version before it, and repeats what the row has added: written twice, but reached by one
step instead of many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.checkpointer.langgraph.encryption import Where, at
from superstep.checkpointer.langgraph.fidelity import is_langgraphs
from superstep.checkpointer.langgraph.marks import Marks, marks
from superstep.runtime.faults import ValueIncomplete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = [
    "Difference",
    "Held",
    "Piece",
    "as_difference",
    "builds",
    "content",
    "held_whole",
    "joined",
    "piece_at",
    "split_kind",
    "unsealed",
]

_PREFIX = "difference:"  # before the kind of a difference: no release before takes it for a value
_LEAST = 512  # bytes; a value that is smaller is stored whole
_ROW = 32  # differences that only add, one on the other
_MOST = 256  # differences on the way from a whole value to a version


class Piece(NamedTuple):
    """A stored version of a value: whole, or a difference.

    Attributes:
        version: of the channel.
        base: the version that it builds on; `None` if it is whole.
        kind: as stored.
        data: as stored.
    """

    version: str
    base: str | None
    kind: str
    data: bytes


class _Way(NamedTuple):
    """How a version is reached from a whole value.

    Attributes:
        version: the version.
        length: how many items it has.
        size: bytes of the differences on the way.
        steps: how many these are.
    """

    version: str
    length: int
    size: int
    steps: int


class Held(NamedTuple):
    """What is known of a stored version, so that the next one can build on it.

    Attributes:
        marks: of its items, as they were stored.
        way: how it is reached.
        whole: bytes of the whole value that the way begins with.
        row: where the row of differences begins that this version is at the end of.
        nth: how many differences that row has; none if it begins here.
    """

    marks: Marks
    way: _Way
    whole: int
    row: _Way
    nth: int


class Difference(NamedTuple):
    """A difference about to be stored.

    Attributes:
        base: what it builds on.
        content: what is stored of it, before serialization.
        row: see `Held`, of the version that it makes; `None` if a row begins there.
        nth: likewise.
        added: what has come after the base, if that is all that has changed.
    """

    base: _Way
    content: list[Any]
    row: _Way | None = None
    nth: int = 0
    added: list[Any] | dict[str, Any] | None = None

    @classmethod
    def between(cls, before: Held, value: Any, now: Marks) -> Difference | None:
        """What has become of a stored version; `None` if that is better stored whole.

        Args:
            before: the version.
            value: a list or a dict.
            now: its marks.
        """
        if before.way.steps >= _MOST or now.of is not before.marks.of:
            return None
        if now.continues(before.marks):
            if before.nth + 1 < _ROW:
                return _grown(before.way, value, before.row, before.nth + 1)
            return _grown(before.row, value, None, 0)
        try:
            what = _of_lists(before.marks, now, value) if now.of is list else _of_dicts(before.marks, now, value)
        except ValueError:
            return None
        return None if what is None else cls(before.way, [0, before.way.length, *what])

    def held(self, before: Held, version: str, now: Marks, size: int) -> Held | None:
        """What is known of the version that it makes, if it takes `size` bytes; `None` if it is better stored whole."""
        way = _Way(version, now.length, self.base.size + size, self.base.steps + 1)
        if way.size > before.whole:
            return None
        return Held(now, way, before.whole, self.row or way, self.nth)

    def is_unchanged(self, serde: SerializerProtocol, value: Any, now: Marks) -> bool:
        """Whether the value still is what its marks were taken of, as far as it goes into the difference."""
        if self.added is None:
            return marks(serde, value) == now
        again = marks(serde, self.added)
        return again is not None and now.packed.endswith(again.packed)


def _grown(base: _Way, value: Any, row: _Way | None, nth: int) -> Difference:
    if type(value) is list:
        added = value[base.length :]
        return Difference(base, [nth, base.length, [[0, base.length, added]]], row, nth, added)
    entries = dict(list(value.items())[base.length :])
    return Difference(base, [nth, base.length, [], entries], row, nth, entries)


def _of_lists(before: Marks, now: Marks, value: list[Any]) -> list[Any] | None:
    """Runs: from where to where the base's items are kept, and the items that come after those."""
    old = before.each()
    places = {item: at for at, item in reversed(list(enumerate(old)))}
    runs: list[tuple[int, int, list[Any]]] = [(0, 0, [])]
    for item, mark in zip(value, now.each(), strict=True):
        start, stop, after = runs[-1]
        if not after and stop < len(old) and old[stop] == mark:
            runs[-1] = (start, stop + 1, after)
        elif (place := places.get(mark)) is not None:
            runs.append((place, place + 1, []))
        else:
            after.append(item)
    many = len(runs) + sum(len(after) for *_, after in runs)
    return None if many > len(value) // 2 else [[list(run) for run in runs]]


def _of_dicts(before: Marks, now: Marks, value: dict[str, Any]) -> list[Any] | None:
    """The keys that went, and the entries that were set."""
    keys, entries = before.keys(), set(before.each())
    removed = [key for key in keys if key not in value]
    changed = {key: value[key] for key, mark in zip(value, now.each(), strict=True) if mark not in entries}
    known = set(keys)
    order = [key for key in keys if key in value] + [key for key in value if key not in known]
    return None if order != list(value) or len(removed) + len(changed) > len(value) // 2 else [removed, changed]


def held_whole(version: str, now: Marks | None, size: int) -> Held | None:
    """What is known of a version that is stored whole, in `size` bytes; `None` if nothing is to build on it."""
    if now is None or size < _LEAST:
        return None
    way = _Way(version, now.length, 0, 0)
    return Held(now, way, size, way, 0)


# -- how it is stored, and put together again --------------------------------------------------------------------------


def as_difference(kind: str) -> str:
    """The kind that a difference is stored with."""
    return _PREFIX + kind


def split_kind(kind: str) -> tuple[str, str]:
    """What marks the kind of a difference, if it is one, and the kind as the serializer gave it."""
    inner = kind.removeprefix(_PREFIX)
    return kind[: -len(inner)], inner


def piece_at(
    serde: SerializerProtocol, where: Where, channel: str, version: object, base: str | None
) -> SerializerProtocol:
    """The serializer for a version of a channel's value. A difference is bound to its base as well.

    It does not take the kind of a difference: see `content`.
    """
    if base is None:
        return at(serde, "value of a channel", where.thread_id, where.ns, channel, str(version))
    return at(serde, "difference of a channel", where.thread_id, where.ns, channel, str(version), base)


def content(serde: SerializerProtocol, where: Where, channel: str, piece: Piece) -> Any:
    """What a version of a channel's value says by itself.

    Raises:
        ValueIncomplete: it builds on another, and that is not said, or the other way round.
    """
    mark, kind = split_kind(piece.kind)
    if (piece.base is not None) != bool(mark):
        raise _incomplete(where, channel, piece.version)
    return piece_at(serde, where, channel, piece.version, piece.base).loads_typed((kind, piece.data))


def joined(
    serde: SerializerProtocol, where: Where, channel: str, pieces: Sequence[Piece], *, to_build_on: bool = False
) -> tuple[Any, Held | None]:
    """The value that a version stands for, and, if it is asked for, what the next version can build on.

    Args:
        serde: the saver's.
        where: in which thread and namespace.
        channel: of which channel.
        pieces: the version, its base, and so on until one that is whole.
        to_build_on: the value is not given to anyone before this returns, and may change afterwards.

    Raises:
        ValueIncomplete: not all of it is there.
        ValueNotAuthentic: one of the pieces is not what was stored there.
    """
    if not pieces or pieces[-1].base is not None:
        raise _incomplete(where, channel, pieces[0].version if pieces else "?")
    value = content(serde, where, channel, pieces[-1])
    nth, ways = 0, [_Way(pieces[-1].version, _length(value), 0, 0)]
    for piece in reversed(pieces[:-1]):
        nth, length, *what = content(serde, where, channel, piece)
        if length != _length(value):
            raise _incomplete(where, channel, piece.version)
        value = _applied(value, what)
        ways.append(_Way(piece.version, _length(value), ways[-1].size + len(piece.data), len(ways)))
    whole = len(pieces[-1].data)
    if not to_build_on or whole < _LEAST or not builds(serde) or (now := marks(unsealed(serde), value)) is None:
        return value, None
    return value, Held(now, ways[-1], whole, ways[max(-1 - nth, -len(ways))], nth)


def _applied(value: Any, what: list[Any]) -> Any:
    """A base, which is changed, with a difference."""
    if len(what) == 2:
        removed, changed = what
        for key in removed:
            del value[key]
        value.update(changed)
        return value
    (runs,) = what
    if len(runs) == 1 and runs[0][:2] == [0, len(value)]:
        value.extend(runs[0][2])
        return value
    return [item for start, stop, after in runs for part in (value[start:stop], after) for item in part]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _incomplete(where: Where, channel: str, version: str) -> ValueIncomplete:
    return ValueIncomplete(
        f"The value of channel {channel!r} of thread {where.thread_id!r} cannot be put together: version {version} "
        f"builds on one that is not there. Nothing was changed; an older checkpoint (`runtime history`) may be whole."
    )


def builds(serde: SerializerProtocol) -> bool:
    """Whether values that a serializer makes can be told apart by marks: one of LangGraph's, whatever encrypts it."""
    return is_langgraphs(serde)


def unsealed(serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer inside of one that encrypts."""
    return getattr(serde, "serde", serde)
