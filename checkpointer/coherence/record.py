"""What is kept of a super-step for the measures of coherence, in its record: packed, and read again. Pure.

A *look* is what one task saw of one key. Keys and digests are short texts, the same in every process for the same
question and the same value; who makes them sees to it that they tell nothing where the saver encrypts.

Of each key one look is kept, the last one in the order of tasks, and of at most `MOST` keys: two or three dozen bytes
each, and a label for people. How far tasks of the super-step differ is worked out here, from all of their looks, before
any of them is dropped.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["DAY", "MOST", "Kept", "Look", "Skew", "as_kept", "label_of", "measured", "skew_of"]

DAY = timedelta(days=1)
"""What reports look back by, unless told."""

MOST = 12  # keys of facts of one super-step, and as many that were read elsewhere
_OF_SQL, _OF_ARGUMENTS, _OF_ARGUMENT = 64, 32, 24  # characters
_SHOWN = (str, int, float, bool, type(None))


class Look(NamedTuple):
    """What a task saw.

    Attributes:
        task: its id.
        key: of what.
        digest: of what it saw.
        as_of: the moment that it is of, in seconds since 1970; `None` of a fact, which is of the super-step's snapshot.
        label: the key for people: a statement, and its arguments.
        after: it was made on top of staged writes of other tasks of the super-step, so it is no state of the database.
    """

    task: str
    key: str
    digest: str
    as_of: float | None
    label: tuple[str, str]
    after: bool = False


class Skew(NamedTuple):
    """How far tasks of one super-step differ in what they saw of a key.

    Attributes:
        seconds: the largest difference between the moments of two tasks' looks.
        differs: two of them saw different values.
    """

    seconds: float
    differs: bool


class Kept(NamedTuple):
    """What is kept of a super-step.

    Attributes:
        looks: one of each key, in the order of tasks.
        compared: how many keys several tasks saw.
        skews: of these, those of which tasks saw different values, or different moments.
        conflicts: by key, how many of its attempts came to nothing because what it had read of the key had moved.
        guards: of each guarded hand-off, whether the facts still held.
        left_out: keys of which nothing is kept.
    """

    looks: Sequence[Look]
    compared: int
    skews: Mapping[str, Skew]
    conflicts: Mapping[str, int]
    guards: Sequence[bool]
    left_out: int


def skew_of(looks: Iterable[Look]) -> dict[str, Skew]:
    """Parallel-read skew: of each key that several tasks saw, how far they differ.

    Of looks of one task it says nothing, nor of those on top of staged writes, where tasks come one after the other.
    """
    by_key: dict[str, list[Look]] = {}
    for look in looks:
        if not look.after:
            by_key.setdefault(look.key, []).append(look)
    found = {}
    for key, of_key in by_key.items():
        if len({look.task for look in of_key}) < 2:
            continue
        pairs = [(one, two) for one in of_key for two in of_key if one.task < two.task]
        seconds = max(abs((one.as_of or 0.0) - (two.as_of or 0.0)) for one, two in pairs)
        found[key] = Skew(seconds, any(one.digest != two.digest for one, two in pairs))
    return found


def measured(looks: Sequence[Look], conflicts: Mapping[str, int]) -> dict[str, Any]:
    """What to add to the record of a super-step; nothing if nothing was seen."""
    if not looks:
        return {"conflicts": dict(conflicts)} if conflicts else {}
    facts = {look.key: look for look in looks if look.as_of is None}
    others = {look.key: look for look in looks if look.as_of is not None}
    skews = skew_of(looks) if len({look.task for look in looks}) > 1 else {}
    record: dict[str, Any] = {}
    if facts:
        kept = list(facts.values())[:MOST]
        record["facts"] = [[look.key, look.digest] for look in kept]
        record["labels"] = [look.label for look in kept]
    if others:
        kept = list(others.values())[:MOST]
        record["observed"] = [[look.key, look.digest, look.as_of] for look in kept]
        record["names"] = [look.label[0] for look in kept]
    if skews:
        rounded = {key: [round(skew.seconds, 6), int(skew.differs)] for key, skew in skews.items()}
        apart = {key: skew for key, skew in rounded.items() if any(skew)}
        record["skew"] = [len(skews), dict(list(apart.items())[:MOST])]
    if conflicts:
        record["conflicts"] = dict(conflicts)
    if left_out := max(len(facts) - MOST, 0) + max(len(others) - MOST, 0):
        record["left_out"] = left_out
    return record


def as_kept(record: Mapping[str, Any]) -> Kept:
    """What the record of a super-step holds; what is missing in it is nothing. The inverse of `measured`.

    Without labels, as of a record that is encrypted, keys stand for themselves.
    """
    facts, observed = record.get("facts") or (), record.get("observed") or ()
    labels = record.get("labels") or [(key, "") for key, _ in facts]
    names = record.get("names") or [key for key, *_ in observed]
    looks = [
        *(Look("", key, digest, None, (sql, args)) for (key, digest), (sql, args) in zip(facts, labels, strict=True)),
        *(Look("", key, digest, at, (name, "")) for (key, digest, at), name in zip(observed, names, strict=True)),
    ]
    compared, skews = record.get("skew") or (0, {})
    return Kept(
        looks=looks,
        compared=compared,
        skews={key: Skew(float(seconds), bool(differs)) for key, (seconds, differs) in skews.items()},
        conflicts=record.get("conflicts") or {},
        guards=[bool(each.get("held")) for each in record.get("guards") or ()],
        left_out=record.get("left_out", 0),
    )


def label_of(sql: str, args: Sequence[Any]) -> tuple[str, str]:
    """A statement and its arguments for people, short. Of arguments, numbers and the beginnings of texts."""
    return _statement(sql), _cut(", ".join(map(_shown, args[:4])) + (", …" if len(args) > 4 else ""), _OF_ARGUMENTS)


@lru_cache(maxsize=1024)
def _statement(sql: str) -> str:
    return _cut(" ".join(sql[: 8 * _OF_SQL].split()), _OF_SQL)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return _cut(value, _OF_ARGUMENT)
    if type(value) in _SHOWN:
        return str(value)
    return _cut(str(value), _OF_ARGUMENT) if type(value).__name__ in ("UUID", "Decimal", "date", "datetime") else "…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
