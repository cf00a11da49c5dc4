"""What a task saw and what it wants written: the read log and the staged writes. Pure data.

A read is remembered by its statement, its arguments and a digest of the rows it returned, or of the words in which the
database rejected it; the rows themselves are not kept. Two reads of the same facts have equal digests, which is all
that repair and drift detection need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from asyncpg import Record

from superstep.checkpointer.step.old_digests import took_no_order
from superstep.checkpointer.step.statements import writes_rows
from superstep.checkpointer.step.stored_args import restored, storable
from superstep.checkpointer.step.value_bytes import NoExactForm, value_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Effect",
    "Emission",
    "Observation",
    "Read",
    "Reduction",
    "RowDigest",
    "Spawning",
    "Staged",
    "differ_in_order",
    "digest_rejection",
    "digest_rows",
    "digest_value",
]

_ROWS = b"\x02"  # the digests of 0.1.0 have no such byte, and another length: they equal none of these
_REJECTED = b"\x03"
_CALLS = 2  # where others have a truth value; the first release takes it for a question
_REDUCTION = "reduction"  # behind a staged write; the first release cannot read it, and so does not send it as SQL
_EMISSION = "emission"  # likewise
_SPAWNING = "spawning"  # likewise
_BAG = 17  # where the part begins that is the same for all orders


@dataclass(frozen=True, slots=True)
class Read:
    """One read of one task.

    Attributes:
        sql: the statement as given.
        args: its arguments.
        digest: of the rows it returned or of its rejection, see `digest_rows` and `digest_rejection`. Those of
            0.1.0 equal none of today's, see `old_digests`.
        after: made on top of the staged writes of the tasks before its own.
        columns: see `Answer.columns`; `None` too if that is not known any more.
        condition_on: the `question` of the read that this is a condition on the rows of, see `fact`. Not stored.
    """

    sql: str
    args: tuple[Any, ...]
    digest: bytes
    after: bool = False
    columns: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    condition_on: bytes | None = field(default=None, repr=False, compare=False)
    _key: tuple[str, bytes] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for reads that ask the same question, and only for them. Made once: replays ask for it again."""
        if self._key is None:
            object.__setattr__(self, "_key", self._question())
        return cast("tuple[str, bytes]", self._key)

    def _question(self) -> tuple[str, bytes]:
        try:
            return self.sql, value_bytes(self.args)
        except NoExactForm:
            return self.sql, b"only itself:%x" % id(self)

    @property
    def question(self) -> bytes | None:
        """The same for the same statement with the same arguments, in every process; `None` if nothing tells."""
        try:
            return _hash(value_bytes((self.sql, self.args)))
        except NoExactForm:
            return None

    @property
    def value(self) -> bytes:
        """A digest of what it said, for measures: of the same rows in another order the same, if it asks for none."""
        if self.digest[:1] != _ROWS:
            return self.digest
        return self.digest[_BAG:] if took_no_order(self.sql) else self.digest[1:_BAG]

    @property
    def turn_key(self) -> bytes | None:
        """What turns are taken on when it has moved: a condition is another one each time, its read is not."""
        return self.condition_on or self.question


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that a task read elsewhere, and that is only measured.

    Attributes:
        key: what it is about.
        digest: of what it saw, see `digest_value`.
        as_of: the moment that it is of, in seconds since 1970.
    """

    key: str
    digest: bytes
    as_of: float

    @property
    def question(self) -> bytes:
        """The same for the same key in every process, and no read's."""
        return _hash(value_bytes(("observed", self.key)))


@dataclass(frozen=True, slots=True)
class Staged:
    """One write to apply at the barrier. `expect_rows` is the row count the command must report, or `None`."""

    sql: str
    args: tuple[Any, ...]
    expect_rows: int | None = None

    @property
    def writes_rows(self) -> bool:
        """Whether it does that, and leaves the session as it was for others that commit in the same transaction."""
        return writes_rows(self.sql)


class Reduction(Staged):
    """An update of a shared value, staged to be merged at the barrier: its name, its key, its document."""

    __slots__ = ()

    @classmethod
    def of(cls, name: str, key: str, document: str) -> Reduction:
        """An update."""
        return cls(f"reduce({name!r})", (name, key, document))

    @property
    def place(self) -> tuple[str, str]:
        """Name and key of the value."""
        name, key, _ = self.args
        return name, key

    @property
    def writes_rows(self) -> bool:
        """See `Staged`."""
        return True


class Emission(Staged):
    """An effect, staged to be put into the outbox at the barrier. Its arguments: see `effects.emitted.Emitted`."""

    __slots__ = ()

    @classmethod
    def of(cls, topic: str, *args: Any) -> Emission:
        """An effect."""
        return cls(f"emit({topic!r})", args)

    @property
    def writes_rows(self) -> bool:
        """See `Staged`."""
        return True


class Spawning(Staged):
    """A child run, staged to be queued at the barrier: `children.spawned.Place` as a list, then those of `Spawned`."""

    __slots__ = ()

    @classmethod
    def of(cls, place: Sequence[str], *args: Any) -> Spawning:
        """A child."""
        return cls(f"spawn({args[1]!r})", (list(place), *args))

    @property
    def writes_rows(self) -> bool:
        """See `Staged`."""
        return True


@dataclass(slots=True)
class Effect:
    """The facts and writes behind one task's result, as stored beside it.

    Attributes:
        task_id: LangGraph's id of the task.
        node: name of the node, for messages and history.
        reads: its read log, in call order.
        staged: its writes, in call order.
        path: LangGraph's task path; staged writes of a step are applied in its order.
        asked: the task ended in an interrupt: the reads are what a human was shown.
        calls: the task has not ended: the reads are what super-steps of its subgraphs rest on that are committed.
        callers: of a `@task` call, the tasks (id to node) that called it: their results rest on its result.
        uses: named versions that it used, such as "verify@3", in the order of their first use.
        guards: channels that it has asked about whether what they rest on holds, and whether it did.
        observed: what it read elsewhere, in call order.
        withheld: in a trial, how many writes it would have staged; not stored.
    """

    task_id: str
    node: str
    reads: list[Read] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    path: str = ""
    asked: bool = False
    callers: dict[str, str] = field(default_factory=dict)
    uses: list[str] = field(default_factory=list)
    guards: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    calls: bool = False
    observed: list[Observation] = field(default_factory=list)
    withheld: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.reads or self.staged or self.uses or self.guards or self.observed or self.withheld)

    def dump(self) -> list[Any]:
        """A msgpack-ready form; `load` reads it back. What the first release knows, it can read too."""
        reads = [[r.sql, list(map(storable, r.args)), r.digest, *([True] if r.after else [])] for r in self.reads]
        staged = [
            [s.sql, list(map(storable, s.args)), s.expect_rows, *([_KINDS[type(s)]] if type(s) in _KINDS else [])]
            for s in self.staged
        ]
        kind = _CALLS if self.calls else self.asked
        guards = [[list(names), held] for names, held in self.guards]
        more = [self.uses, guards, [[each.key, each.digest, each.as_of] for each in self.observed]]
        while more and not more[-1]:
            more.pop()
        return [self.node, reads, staged, self.path, kind, self.callers, *more]

    @classmethod
    def load(cls, task_id: str, dumped: Sequence[Any]) -> Effect:
        """The inverse of `dump`."""
        node, reads, staged, path, kind, callers, *more = dumped
        uses, guards, observed = (*more, [], [], [])[:3]
        return cls(
            task_id=task_id,
            node=node,
            reads=[Read(sql, tuple(map(restored, args)), digest, bool(after)) for sql, args, digest, *after in reads],
            staged=[
                _STAGED[kind[0] if kind else None](sql, tuple(map(restored, args)), expect)
                for sql, args, expect, *kind in staged
            ],
            path=path,
            asked=kind is True,
            calls=kind == _CALLS and kind is not True,
            callers=callers,
            uses=list(uses),
            guards=[(tuple(names), held) for names, held in guards],
            observed=[Observation(*each) for each in observed],
        )


_KINDS: dict[type[Staged], str] = {Reduction: _REDUCTION, Emission: _EMISSION, Spawning: _SPAWNING}
_STAGED: dict[str | None, type[Staged]] = {None: Staged, **{kind: made for made, kind in _KINDS.items()}}


class RowDigest:
    """A digest of rows of Python values, equal exactly when the rows are the same ones in the same order.

    It has two parts, of the rows in their order and of the rows whatever their order (see `differ_in_order`): SQL
    without ORDER BY promises none, and a heap scan does change its order when a row is updated. Names of columns count
    as values.

    Args:
        columns: their names, for rows that do not bring them.
    """

    def __init__(self, columns: tuple[str, ...] | None = None) -> None:
        self._hashes: list[bytes] = []
        self._columns = columns

    def add(self, rows: Iterable[Any]) -> None:
        """The next rows.

        Raises:
            NoExactForm: a value is of a type that cannot be compared exactly.
        """
        hashes = self._hashes
        for row in rows:
            if not hashes and (columns := tuple(row.keys()) if isinstance(row, Record) else self._columns) is not None:
                hashes.append(_of_columns(columns))
            hashes.append(_hash(b"".join(map(value_bytes, row))))

    def digest(self) -> bytes:
        """Of all that were added."""
        return _ROWS + _hash(b"".join(self._hashes)) + _hash(b"".join(sorted(self._hashes)))


def digest_rows(rows: Iterable[Any]) -> bytes:
    """The digest of rows. See `RowDigest`."""
    whole = RowDigest()
    whole.add(rows)
    return whole.digest()


@lru_cache(maxsize=1024)
def _of_columns(names: tuple[str, ...]) -> bytes:
    return _hash(b"".join(map(value_bytes, names)))


def digest_value(value: Any) -> bytes:
    """The digest of any value.

    Raises:
        NoExactForm: it is of a type that cannot be compared exactly.
    """
    return _hash(value_bytes(value))


def digest_rejection(*said: str) -> bytes:
    """A digest of a read that was rejected: equal exactly when it was rejected with the same words."""
    return _REJECTED + _hash(value_bytes(said))


def differ_in_order(one: bytes, other: bytes) -> bool:
    """Whether these are digests of the same rows in another order."""
    return one != other and one[:1] == other[:1] == _ROWS and one[_BAG:] == other[_BAG:] and len(one) == len(other)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
