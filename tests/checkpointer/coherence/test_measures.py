"""The formulas, beside others that say the same from the definitions, word for word."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.coherence.measures import Coherence, MeasuredStep, Tally, rate, step_name
from superstep.checkpointer.coherence.record import Kept, Look, Skew

FACTS = st.builds(
    lambda key, digest: Look("", key, digest, None, (f"sql {key}", "")), st.sampled_from("kl"), st.sampled_from("12")
)
OTHERS = st.builds(
    lambda key, digest, at: Look("", key, digest, at, (key, "")),
    st.sampled_from("xy"),
    st.sampled_from("12"),
    st.integers(0, 100).map(float),
)
KEPT = st.builds(
    Kept,
    looks=st.lists(FACTS | OTHERS, max_size=4, unique_by=lambda look: look.key),
    compared=st.integers(0, 3),
    skews=st.dictionaries(st.sampled_from("kx"), st.builds(Skew, st.integers(0, 9).map(float), st.booleans())),
    conflicts=st.dictionaries(st.sampled_from("kl"), st.integers(1, 3)),
    guards=st.lists(st.booleans(), max_size=2),
    left_out=st.just(0),
)
STEPS = st.lists(
    st.builds(
        MeasuredStep,
        thread_id=st.sampled_from("tu"),
        graph=st.just("g"),
        name=st.sampled_from(["plan", "check", "act"]),
        as_of=st.just(0.0),
        attempts=st.integers(1, 4),
        kept=st.none() | KEPT,
    ),
    max_size=14,
).map(lambda steps: [step._replace(as_of=10.0 * at) for at, step in enumerate(steps)])


def tallied(steps: list[MeasuredStep]) -> Coherence:
    tally = Tally()
    tally.add_all(steps)
    return tally.result()


def runs_of(steps: list[MeasuredStep]) -> list[list[MeasuredStep]]:
    """The super-steps of each run: of one thread, without an input in between."""
    runs: list[list[MeasuredStep]] = []
    for thread in {step.thread_id for step in steps}:
        runs.append([])
        for step in steps:
            if step.thread_id == thread:
                if step.kept is None:
                    runs.append([])
                else:
                    runs[-1].append(step)
    return runs


@given(STEPS)
def test_divergence(steps: list[MeasuredStep]) -> None:
    expected: dict[tuple[str, str, str], list[tuple[float, bool]]] = {}
    for run in runs_of(steps):
        for (i, one), (j, two) in combinations(enumerate(run), 2):
            assert one.kept
            assert two.kept
            for a in one.kept.looks:
                for b in two.kept.looks:
                    again = any(
                        each.name == one.name and each.kept and any(look.key == a.key for look in each.kept.looks)
                        for each in run[i + 1 : j]
                    )
                    if a.key == b.key and not again:
                        at = [step.as_of if look.as_of is None else look.as_of for step, look in ((one, a), (two, b))]
                        pair = (one.name, two.name, a.key)
                        expected.setdefault(pair, []).append((abs(at[0] - at[1]), a.digest != b.digest))
    found = tallied(steps)
    assert {
        (d.before, d.after, d.key): (d.pairs, d.moved, d.max_seconds, d.mean_seconds) for d in found.divergences
    } == {
        pair: (
            len(gaps),
            sum(moved for _, moved in gaps),
            max(seconds for seconds, _ in gaps),
            pytest.approx(sum(seconds for seconds, _ in gaps) / len(gaps)),
        )
        for pair, gaps in expected.items()
    }
    every = [gap for gaps in expected.values() for gap in gaps]
    assert (found.totals.pairs, found.totals.moved) == (len(every), sum(moved for _, moved in every))
    assert found.totals.max_seconds == max((seconds for seconds, _ in every), default=0.0)
    assert sum(flow.pairs for flow in found.flows) == len(every)


@given(STEPS)
def test_skew_and_hand_offs(steps: list[MeasuredStep]) -> None:
    found, kept = tallied(steps), [step.kept for step in steps if step.kept]
    skews = [skew for each in kept for skew in each.skews.values()]
    assert found.totals.compared == sum(each.compared for each in kept)
    assert found.totals.differing == sum(skew.differs for skew in skews)
    assert found.totals.max_skew == max((skew.seconds for skew in skews), default=0.0)
    assert sum(each.steps for each in found.skews) == len(skews)
    guards = [held for each in kept for held in each.guards]
    assert found.totals.guarded == len(guards)
    assert found.totals.invalidation_rate == (guards.count(False) / len(guards) if guards else 0)


@given(STEPS)
def test_conflicts(steps: list[MeasuredStep]) -> None:
    found = tallied(steps)
    for key in "kl":
        of_key = [
            (max(step.attempts, step.kept.conflicts.get(key, 0) + 1), step.kept.conflicts.get(key, 0))
            for step in steps
            if step.kept and (key in step.kept.conflicts or key in [look.key for look in step.kept.looks])
        ]
        (of_found,) = [each for each in found.conflicts if each.key == key] or [None]
        assert (of_found is None) == (not of_key)
        if of_found is not None:
            assert of_found.attempts == sum(attempts for attempts, _ in of_key)
            assert of_found.conflict_rate == sum(n for _, n in of_key) / of_found.attempts
    assert found.totals.attempts == sum(each.attempts for each in found.conflicts)
    assert found.totals.conflicts == sum(flow.conflicts for flow in found.flows)


def test_the_worst_comes_first_and_lists_are_cut() -> None:
    tally = Tally()
    for n in range(5):
        for name, digest in (("plan", "1"), ("act", "2" if n == 3 else "1")):
            kept = Kept([Look("", f"k{n}", digest, None, ("sql", str(n)))], 0, {}, {}, [], 0)
            tally.add(MeasuredStep(f"t{n}", None, name, float(n), 1, kept))
    found = tally.result(2)
    assert (found.divergences[0].key, found.flows[0].thread_id) == ("k3", "t3")
    assert len(found.divergences) == len(found.conflicts) == len(found.flows) == 2
    assert found.totals.pairs == 5
    assert found.conflicts[0].label[0] == "sql"


def test_names_and_rates() -> None:
    assert step_name("", ["a", "b"]) == "a, b"
    assert step_name("outer:1|inner:2", ["a"]) == "outer/inner/a"
    assert (rate(1, 0), rate(1, 4)) == (0.0, 0.25)
