"""Between LangGraph's objects and rows. Pure: no driver, no clock.

A checkpoint's small values travel inside its `payload`; a value that is larger, or not a plain scalar, gets a row of
its own keyed by channel version, so that an unchanged channel is stored once however many checkpoints name it; one that
has grown is stored as what it has grown by, see `differences`. All of it goes through the saver's serializer; what an
`EncryptedSerializer` makes of it is in `encryption`.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)
from langgraph.checkpoint.serde.types import ERROR

from superstep.checkpointer.langgraph.differences import (
    Difference,
    Held,
    Piece,
    as_difference,
    builds,
    held_whole,
    joined,
    piece_at,
    unsealed,
)
from superstep.checkpointer.langgraph.encryption import (
    NOWHERE,
    Where,
    at,
    encrypts,
    metadata_column,
    opened_json,
    refuse_encrypted,
)
from superstep.checkpointer.langgraph.fidelity import what_is_lost
from superstep.checkpointer.langgraph.ids import usable
from superstep.checkpointer.langgraph.marks import marks
from superstep.checkpointer.langgraph.metadata import restored, stored_json
from superstep.checkpointer.langgraph.serializer import by_fields
from superstep.runtime.faults import ValueNotAuthentic, ValueNotSerializable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = [
    "CheckpointRow",
    "WriteRows",
    "checkpoint_row",
    "checkpoint_tuple",
    "dump",
    "effect_at",
    "for_jsonb",
    "load_payload",
    "loaded_tuple",
    "values_of",
    "write_at",
    "write_rows",
]

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_INLINE_TEXT = 256  # bytes; longer text is worth a row that later checkpoints can share


class CheckpointRow(NamedTuple):
    """The columns of one checkpoint and of its new channel values, in the order `commit.queries` passes them on."""

    kind: str
    payload: bytes
    channels: list[str]
    versions: list[str]
    metadata: str
    new_channels: list[str]
    new_versions: list[str]
    new_kinds: list[str]
    new_values: list[bytes]
    new_bases: list[str | None]


class WriteRows(NamedTuple):
    """Pending writes as columns: task, idx, path, channel, kind, value."""

    tasks: list[str]
    idx: list[int]
    paths: list[str]
    channels: list[str]
    kinds: list[str]
    values: list[bytes]

    @classmethod
    def none(cls) -> WriteRows:
        """No writes."""
        return cls([], [], [], [], [], [])

    @classmethod
    def merged(cls, parts: Iterable[WriteRows]) -> WriteRows:
        """All rows of all parts. Of two with one task and index (a special channel written twice) the later counts."""
        parts = tuple(parts)
        if len(parts) == 1 and len(set(parts[0].idx)) == len(parts[0].idx):
            return parts[0]
        rows = {(row[0], row[1]): row for part in parts for row in zip(*part, strict=True)}
        columns = zip(*rows.values(), strict=True) if rows else ((),) * 6
        return cls(*(list(column) for column in columns))


def dump(serde: SerializerProtocol, value: Any, what: str) -> tuple[str, bytes]:
    """Serialize one value, so that it comes back as what it is.

    Raises:
        ValueNotSerializable: msgpack refuses the value, or gives back something else. `what` names it in the message.
    """
    try:
        stored = serde.dumps_typed(value)
        if (lost := what_is_lost(serde, value, stored)) is not None:
            stored, lost = _by_fields(serde, value) or (stored, lost)
    except (TypeError, ValueError) as e:  # ormsgpack.MsgpackEncodeError is a TypeError
        raise ValueNotSerializable(
            f"{what} holds a {type(value).__name__} that cannot be stored as msgpack: {e}. Keep plain data, messages, "
            f"dataclasses or pydantic models in the state, or give the saver a serde that knows the type."
        ) from e
    if lost is not None:
        raise ValueNotSerializable(
            f"{what} cannot be stored: {lost}. Only classes that the graph's schemas name are rebuilt (a field of type "
            f"`Any` names none), and only from what msgpack keeps of them. Name the class in the state schema, keep "
            f"plain data instead, or give the saver a serde that knows it."
        )
    return stored


def _by_fields(serde: SerializerProtocol, value: Any) -> tuple[tuple[str, bytes], None] | None:
    """The value stored by the fields of its models, if it comes back as itself then."""
    with suppress(TypeError, ValueError), by_fields():
        stored = serde.dumps_typed(value)
        return (stored, None) if what_is_lost(serde, value, stored) is None else None
    return None


def _is_inline(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float) or (type(value) is str and len(value) <= _INLINE_TEXT)


def checkpoint_row(
    serde: SerializerProtocol,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    new_versions: ChannelVersions,
    where: Where = NOWHERE,
    key: bytes | None = None,
    standing: Mapping[str, str] = MappingProxyType({}),
    held: Mapping[str, Held] = MappingProxyType({}),
) -> tuple[CheckpointRow, dict[str, Held | None]]:
    """Split a checkpoint into its payload, its references to channel values, and the values that are new.

    With encryption, `where` says which checkpoint it is, and `key` is that of keyed digests. See `encryption`.
    `standing` are stored values, by channel and version, that belong to it and are not in it.

    Returns:
        What is stored, and what can be built on when it is: `held` from then on, for the channels that are new in it.
    """
    known = checkpoint["channel_versions"]
    inline: dict[str, Any] = {}
    channels = list(standing)
    versions = list(standing.values())
    for name, value in checkpoint["channel_values"].items():
        if _is_inline(value) or name not in known:
            inline[name] = value
        else:
            channels.append(usable(name, "The name of channel"))
            versions.append(str(known[name]))
    body = {key: value for key, value in checkpoint.items() if key != "channel_values"}
    parts = [body, inline, channels] if encrypts(serde) else [body, inline]
    kind, payload = dump(at(serde, "checkpoint", *where), parts, "the checkpoint")
    said = metadata_column(serde, key, stored_json(metadata), where)
    row = CheckpointRow(kind, payload, channels, versions, said, [], [], [], [], [])
    after: dict[str, Held | None] = {}
    for name, version in zip(channels, versions, strict=True):
        if name in new_versions:
            value = checkpoint["channel_values"][name]
            piece, after[name] = _stored(serde, where, name, version, value, held.get(name))
            row.new_channels.append(name)
            row.new_versions.append(version)
            row.new_kinds.append(piece.kind)
            row.new_values.append(piece.data)
            row.new_bases.append(piece.base)
    return row, after


def _stored(
    serde: SerializerProtocol, where: Where, channel: str, version: str, value: Any, before: Held | None
) -> tuple[Piece, Held | None]:
    """A value as it is stored, and what is held of it then; see `differences`."""
    inner = unsealed(serde)
    now = marks(inner, value) if builds(serde) else None
    change = Difference.between(before, value, now) if before is not None and now is not None else None
    if before is not None and now is not None and change is not None:
        with suppress(ValueNotSerializable):  # that of the whole value says where in it
            kind, data = dump(piece_at(serde, where, channel, version, change.base.version), change.content, channel)
            if (after := change.held(before, version, now, len(data))) is not None:
                piece = Piece(version, change.base.version, as_difference(kind), data)
                return piece, after if change.is_unchanged(inner, value, now) else None
    kind, data = dump(piece_at(serde, where, channel, version, None), value, f"channel {channel!r}")
    whole = held_whole(version, now, len(data))
    if whole is not None and marks(inner, value) != now:
        whole = None
    return Piece(version, None, kind, data), whole


def effect_at(serde: SerializerProtocol, where: Where, task_id: str) -> SerializerProtocol:
    """The serializer for the effect of a task in the super-step that started from a checkpoint."""
    return at(serde, "effect of a task", *where, task_id)


def write_at(
    serde: SerializerProtocol, where: Where, task_id: str, idx: int, task_path: str, channel: str
) -> SerializerProtocol:
    """The serializer for a pending write."""
    return at(serde, "write of a task", *where, task_id, idx, task_path, channel)


def write_rows(
    serde: SerializerProtocol,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    where: Where = NOWHERE,
) -> WriteRows:
    """A task's writes as rows. Special channels have their fixed negative index, the others their position."""
    rows = WriteRows.none()
    usable(task_path, "The path of a task, which has the name of its node,")
    encrypted = encrypts(serde)
    for position, (channel, value) in enumerate(writes):
        idx = WRITES_IDX_MAP.get(channel, position)
        place = write_at(serde, where, task_id, idx, task_path, channel) if encrypted else serde
        what = f"the write of task {task_path or task_id} to channel {channel!r}"
        kind, data = dump(place, repr(value) if channel == ERROR and isinstance(value, BaseException) else value, what)
        rows.tasks.append(task_id)
        rows.idx.append(idx)
        rows.paths.append(task_path)
        rows.channels.append(usable(channel, "The name of channel"))
        rows.kinds.append(kind)
        rows.values.append(data)
    return rows


def load_payload(
    serde: SerializerProtocol, kind: str, payload: bytes, where: Where = NOWHERE
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoint without its values, and its inline values.

    Raises:
        ValueNotAuthentic: the serializer has no key for it, or it was not written for this checkpoint with that key.
    """
    body, inline, _ = _payload(serde, kind, payload, where)
    return body, inline


def _payload(
    serde: SerializerProtocol, kind: str, payload: bytes, where: Where
) -> tuple[dict[str, Any], dict[str, Any], list[str] | None]:
    refuse_encrypted(serde, kind)
    body, inline, *channels = at(serde, "checkpoint", *where).loads_typed((kind, payload))
    return body, inline, *(channels or [None])


def values_of(
    serde: SerializerProtocol,
    where: Where,
    versions: Mapping[str, Any],
    row: Mapping[str, Any],
    *,
    to_build_on: bool = False,
) -> dict[str, tuple[Any, Held | None]]:
    """The values of channels from the columns of `value_columns`, and if it is asked for, what can be built on.

    Args:
        serde: the saver's.
        where: the thread and the namespace.
        versions: which version of each channel it is, by what is known and not by the row.
        row: has the columns.
        to_build_on: see `differences.joined`.
    """
    columns = ("value_names", "value_kinds", "value_values", "value_bases")
    found = {}
    for name, stored in groupby(zip(*(row[column] or () for column in columns), strict=True), key=itemgetter(0)):
        pieces, version = [], str(versions.get(name))
        for _, kind, data, base in stored:
            pieces.append(Piece(version, base, kind, data))
            version = base
        found[name] = joined(serde, where, name, pieces, to_build_on=to_build_on)
    return found


def checkpoint_tuple(serde: SerializerProtocol, row: Mapping[str, Any]) -> CheckpointTuple:
    """Put a row of `get_latest`, `get_one` or `list` together again."""
    return _loaded(serde, row, to_build_on=False)[0]


def loaded_tuple(serde: SerializerProtocol, row: Mapping[str, Any]) -> tuple[CheckpointTuple, dict[str, Held]]:
    """As `checkpoint_tuple`, for a run: and the stored versions that its next ones can build on."""
    return _loaded(serde, row, to_build_on=True)


def _loaded(
    serde: SerializerProtocol, row: Mapping[str, Any], *, to_build_on: bool
) -> tuple[CheckpointTuple, dict[str, Held]]:
    where = Where(row["thread_id"], row["ns"], row["checkpoint_id"])
    body, values, channels = _payload(serde, row["kind"], row["payload"], where)
    if channels is not None and set(channels) != set(row["value_names"] or ()):
        raise ValueNotAuthentic(
            f"Checkpoint {where.checkpoint_id} of thread {where.thread_id!r} was refused: values of its channels are "
            f"missing, or are not those it was stored with."
        )
    # Which version it is, the checkpoint says, and not the row beside it.
    stored = values_of(serde, where, body["channel_versions"], row, to_build_on=to_build_on)
    values.update((name, value) for name, (value, _) in stored.items())
    pending: list[PendingWrite] = [
        (task, channel, write_at(serde, where, task, idx, path, channel).loads_typed((kind, value)))
        for task, idx, path, channel, kind, value in zip(
            row["write_tasks"] or (),
            row["write_idx"] or (),
            row["write_paths"] or (),
            row["write_channels"] or (),
            row["write_kinds"] or (),
            row["write_values"] or (),
            strict=True,
        )
    ]
    parent = row["parent_id"]
    found = CheckpointTuple(
        _config(row["thread_id"], row["ns"], row["checkpoint_id"]),
        cast("Checkpoint", {**body, "channel_values": values}),
        cast("CheckpointMetadata", _metadata(serde, row["metadata"], where)),
        _config(row["thread_id"], row["ns"], parent) if parent else None,
        pending,
    )
    return found, {name: held for name, (_, held) in stored.items() if held is not None}


def _metadata(serde: SerializerProtocol, text: str, where: Where) -> dict[str, Any]:
    held = restored(text)
    opened = opened_json(serde, held, "metadata", *where)
    return held if opened is held else restored(json.dumps(opened))


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def for_jsonb(text: str) -> str:
    """JSON text without what jsonb does not hold: NUL, and lone surrogates."""
    if text.isascii() and "u0000" not in text:
        return text
    # An even number of backslashes before `u0000` is literal text.
    return _NUL.sub(r"\1", text).encode(errors="replace").decode()
