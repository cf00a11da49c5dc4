"""The measures of coherence, as formulas over what was kept of committed super-steps. Pure.

*Inter-step state divergence.* A flow is a run of a thread, from its input on. Two of its super-steps form a pair for a
key if both saw it. The divergence of the pair is the time between the moments that the two looks are of, and whether
the value had moved. The moment of a fact is when the snapshot was taken in which its super-step committed, by the
database's clock; that of what was read elsewhere is what its reader says. Of earlier super-steps with the same nodes
the latest counts, so that a loop is compared with its last turn, and the number of pairs stays small.

*Parallel-read skew.* Within a super-step, the largest difference between the looks of two tasks at one key: in time,
and whether the values differ.

*Plan invalidation rate.* Guarded hand-offs whose facts had moved, of all guarded hand-offs.

*Concurrent-write conflict rate.* Of a key: attempts of super-steps that came to nothing because what they had read of
the key had moved, of all attempts that rested on it. An attempt that committed counts as one without a conflict.

*Post-hoc reconciliation delta.* Flows that decide otherwise when they decide again on reconciled state, of those that
were asked to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from superstep.checkpointer.coherence.record import Kept, Look

__all__ = [
    "Coherence",
    "Divergence",
    "FlowCoherence",
    "KeyConflicts",
    "MeasuredStep",
    "ReadSkew",
    "Tally",
    "Totals",
    "rate",
    "step_name",
]


class MeasuredStep(NamedTuple):
    """One committed super-step, or an input, with which a run begins.

    Attributes:
        thread_id: its thread.
        graph: name of the graph, if that is known.
        name: its nodes, see `step_name`.
        as_of: when the snapshot was taken in which it committed, in seconds since 1970, by the database's clock.
        attempts: how often it was tried.
        kept: what was kept of it; `None` of an input.
    """

    thread_id: str
    graph: str | None
    name: str
    as_of: float
    attempts: int
    kept: Kept | None


@dataclass(slots=True)
class Totals:
    """Sums over super-steps: of one flow, or of all.

    Attributes:
        steps: super-steps of which something was kept.
        pairs: of super-steps, and a key that both saw.
        moved: of these, those of which the value had moved.
        max_seconds: the largest divergence in time.
        sum_seconds: of all pairs together.
        compared: keys that several tasks of a super-step saw.
        differing: of these, those of which tasks saw different values.
        max_skew: the largest skew in time, in seconds.
        guarded: hand-offs that were guarded.
        invalidated: of these, those whose facts had moved.
        attempts: of super-steps, counted for each key that they rested on.
        conflicts: of these, those that came to nothing because the key had moved.
    """

    steps: int = 0
    pairs: int = 0
    moved: int = 0
    max_seconds: float = 0.0
    sum_seconds: float = 0.0
    compared: int = 0
    differing: int = 0
    max_skew: float = 0.0
    guarded: int = 0
    invalidated: int = 0
    attempts: int = 0
    conflicts: int = 0

    @property
    def mean_seconds(self) -> float:
        """The divergence in time of a pair, on average."""
        return rate(self.sum_seconds, self.pairs)

    @property
    def invalidation_rate(self) -> float:
        """See the module."""
        return rate(self.invalidated, self.guarded)

    @property
    def conflict_rate(self) -> float:
        """See the module."""
        return rate(self.conflicts, self.attempts)

    def diverge(self, seconds: float, *, moved: bool) -> None:
        """One more pair."""
        self.pairs += 1
        self.moved += moved
        self.sum_seconds += seconds
        self.max_seconds = max(self.max_seconds, seconds)


@dataclass(slots=True)
class Divergence:
    """Of one pair of super-steps and one key, over all flows.

    Attributes:
        before: nodes of the earlier super-step.
        after: nodes of the later one.
        key: of what they saw.
        label: statement and arguments, for people.
        pairs: how many there were.
        moved: of these, those of which the value had moved.
        max_seconds: the largest divergence in time.
        sum_seconds: of all together.
    """

    before: str
    after: str
    key: str
    label: tuple[str, str]
    pairs: int = 0
    moved: int = 0
    max_seconds: float = 0.0
    sum_seconds: float = 0.0

    @property
    def mean_seconds(self) -> float:
        """On average."""
        return rate(self.sum_seconds, self.pairs)


@dataclass(slots=True)
class ReadSkew:
    """Of one key, over all super-steps in which tasks saw it differently.

    Attributes:
        key: the key.
        label: statement and arguments, for people.
        steps: how many super-steps.
        differing: of these, those of which tasks saw different values.
        max_seconds: the largest difference in time.
    """

    key: str
    label: tuple[str, str]
    steps: int = 0
    differing: int = 0
    max_seconds: float = 0.0


@dataclass(slots=True)
class KeyConflicts:
    """Of one key, over all super-steps that rested on it.

    Attributes:
        key: the key.
        label: statement and arguments, for people.
        attempts: of these super-steps.
        conflicts: those that came to nothing because it had moved.
    """

    key: str
    label: tuple[str, str]
    attempts: int = 0
    conflicts: int = 0

    @property
    def conflict_rate(self) -> float:
        """See the module."""
        return rate(self.conflicts, self.attempts)


@dataclass(slots=True)
class FlowCoherence(Totals):
    """Of one thread.

    Attributes:
        thread_id: the thread.
        graph: name of its graph, if that is known.
    """

    thread_id: str = ""
    graph: str | None = None


@dataclass(frozen=True, slots=True)
class Coherence:
    """What was measured. Each list has the worst first.

    Attributes:
        totals: over all flows.
        divergences: by pair of super-steps and key.
        skews: by key, those in which tasks differed.
        conflicts: by key.
        flows: by thread.
        left_out: keys of super-steps that had more of them than are kept.
    """

    totals: Totals
    divergences: list[Divergence]
    skews: list[ReadSkew]
    conflicts: list[KeyConflicts]
    flows: list[FlowCoherence]
    left_out: int = 0


class _Seen(NamedTuple):
    """A look, and the moment that it is of."""

    look: Look
    at: float


@dataclass(slots=True)
class Tally:
    """Takes in super-steps one after the other, those of each thread in the order of their commits."""

    totals: Totals = field(default_factory=Totals)
    left_out: int = 0
    _divergences: dict[tuple[str, str, str], Divergence] = field(default_factory=dict)
    _skews: dict[str, ReadSkew] = field(default_factory=dict)
    _conflicts: dict[str, KeyConflicts] = field(default_factory=dict)
    _flows: dict[str, FlowCoherence] = field(default_factory=dict)
    _seen: dict[str, dict[str, dict[str, _Seen]]] = field(default_factory=dict)  # by thread, key and super-step
    _labels: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add_all(self, steps: Iterable[MeasuredStep]) -> None:
        """Take them in."""
        for step in steps:
            self.add(step)

    def add(self, step: MeasuredStep) -> None:
        """Take one in."""
        if step.kept is None:
            self._seen.pop(step.thread_id, None)
            return
        flow = self._flows.get(step.thread_id)
        if flow is None:
            flow = self._flows[step.thread_id] = FlowCoherence(thread_id=step.thread_id, graph=step.graph)
        both = (self.totals, flow)
        self._labels.update((look.key, look.label) for look in step.kept.looks)
        self.left_out += step.kept.left_out
        for totals in both:
            totals.steps += 1
            totals.guarded += len(step.kept.guards)
            totals.invalidated += step.kept.guards.count(False)
        self._diverge(step, step.kept, both)
        self._skew(step.kept, both)
        self._conflict(step, step.kept, both)

    def _diverge(self, step: MeasuredStep, kept: Kept, both: tuple[Totals, Totals]) -> None:
        seen = self._seen.setdefault(step.thread_id, {})
        for look in kept.looks:
            at = step.as_of if look.as_of is None else look.as_of
            of_key = seen.setdefault(look.key, {})
            for before, earlier in of_key.items():
                seconds, moved = abs(at - earlier.at), look.digest != earlier.look.digest
                pair = (before, step.name, look.key)
                if pair not in self._divergences:
                    self._divergences[pair] = Divergence(*pair, look.label)
                found = self._divergences[pair]
                found.pairs += 1
                found.moved += moved
                found.sum_seconds += seconds
                found.max_seconds = max(found.max_seconds, seconds)
                for totals in both:
                    totals.diverge(seconds, moved=moved)
            of_key[step.name] = _Seen(look, at)

    def _skew(self, kept: Kept, both: tuple[Totals, Totals]) -> None:
        for totals in both:
            totals.compared += kept.compared
        for key, skew in kept.skews.items():
            found = self._skews.setdefault(key, ReadSkew(key, (key, "")))
            found.steps += 1
            found.differing += skew.differs
            found.max_seconds = max(found.max_seconds, skew.seconds)
            for totals in both:
                totals.differing += skew.differs
                totals.max_skew = max(totals.max_skew, skew.seconds)

    def _conflict(self, step: MeasuredStep, kept: Kept, both: tuple[Totals, Totals]) -> None:
        facts = [look.key for look in kept.looks if look.as_of is None]
        for key in dict.fromkeys([*facts, *kept.conflicts]):
            conflicts = kept.conflicts.get(key, 0)
            attempts = max(step.attempts, conflicts + 1)
            found = self._conflicts.setdefault(key, KeyConflicts(key, (key, "")))
            found.attempts += attempts
            found.conflicts += conflicts
            for totals in both:
                totals.attempts += attempts
                totals.conflicts += conflicts

    def result(self, most: int | None = None) -> Coherence:
        """What was measured so far; of each list, so many at most."""
        for skew in self._skews.values():
            skew.label = self._labels.get(skew.key, skew.label)
        for conflicts in self._conflicts.values():
            conflicts.label = self._labels.get(conflicts.key, conflicts.label)
        return Coherence(
            self.totals,
            sorted(self._divergences.values(), key=lambda d: (-d.moved, -d.max_seconds, d.key))[:most],
            sorted(self._skews.values(), key=lambda s: (-s.differing, -s.max_seconds, s.key))[:most],
            sorted(self._conflicts.values(), key=lambda c: (-c.conflicts, -c.attempts, c.key))[:most],
            sorted(self._flows.values(), key=_worst_flow)[:most],
            self.left_out,
        )


def _worst_flow(flow: FlowCoherence) -> tuple[float | str, ...]:
    return -(flow.moved + flow.differing), -flow.invalidated, -flow.conflicts, -flow.max_seconds, flow.thread_id


def rate(part: float, whole: float) -> float:
    """A part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def step_name(ns: str, nodes: Iterable[str]) -> str:
    """The nodes of a super-step, after the path of the subgraph that they ran in."""
    path = "/".join(part.split(":")[0] for part in ns.split("|") if part)
    names = ", ".join(nodes)
    return f"{path}/{names}" if path else names
