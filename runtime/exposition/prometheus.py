"""What was measured, in the text format of Prometheus (version 0.0.4).

All are gauges: they are of a window of time, and go down when what they counted leaves it. Keys are told by their
statement, without arguments: those would make a series of each row of a table, and show it to whoever sees the metrics.
Of statements and pairs of super-steps the worst are told, so that the number of series is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.runtime.settings.shown import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from superstep.checkpointer import Coherence, Metrics

__all__ = ["exposition"]

MOST = 50  # series of one name that differ in a statement or a pair


class Sample(NamedTuple):
    """One value, with what tells it from others of its name."""

    value: float
    labels: Mapping[str, str] = {}


class Family(NamedTuple):
    """One name with its values."""

    name: str
    help: str
    samples: list[Sample]


def exposition(found: Metrics) -> str:
    """All families, each with its lines `# HELP` and `# TYPE`; those without a value are left out."""
    families = [*_of_window(found), *_of_coherence(found.coherence), *_of_steps(found), *_of_calls(found)]
    return "".join(line for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    name = f"superstep_{family.name}"
    yield f"# HELP {name} {_escaped(family.help)}\n# TYPE {name} gauge\n"
    for value, labels in family.samples:
        inside = ",".join(f'{label}="{_quoted(text)}"' for label, text in labels.items())
        yield f"{name}{{{inside}}} {value!r}\n" if inside else f"{name} {value!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(safe(text)).replace('"', '\\"')


def _of_window(found: Metrics) -> Iterator[Family]:
    totals = found.coherence.totals
    length = (found.until - found.since).total_seconds()
    yield Family("window_seconds", "Length of the window that all else is about.", [Sample(length)])
    for name, text, value in (
        ("divergence_max_seconds", "Inter-step divergence: the most between looks at one key.", totals.max_seconds),
        ("divergence_mean_seconds", "Inter-step divergence of a pair on average.", totals.mean_seconds),
        ("divergence_pairs", "Pairs of super-steps of a flow that saw one key.", totals.pairs),
        ("divergence_moved", "Pairs whose value had moved.", totals.moved),
        ("skew_max_seconds", "Parallel-read skew: the most between looks of two tasks.", totals.max_skew),
        ("skew_compared", "Keys that several tasks of a super-step saw.", totals.compared),
        ("skew_differing", "Keys of which tasks of one super-step saw different values.", totals.differing),
        ("handoffs_guarded", "Guarded hand-offs.", totals.guarded),
        ("handoffs_invalidated", "Guarded hand-offs whose facts had moved.", totals.invalidated),
        ("plan_invalidation_ratio", "Invalidated of all guarded hand-offs.", totals.invalidation_rate),
        ("reconciled_flows", "Flows that decided again on reconciled state.", found.reconciled),
        ("reconciled_differing", "Flows that decided otherwise then.", found.reconciled_differing),
        ("reconciliation_delta_ratio", "Flows that decided otherwise of those.", found.reconciliation_delta),
        ("conflict_attempts", "Attempts of super-steps, for each key.", totals.attempts),
        ("conflicts", "Attempts that came to nothing because the key had moved.", totals.conflicts),
        ("conflict_ratio", "Conflicts of all attempts.", totals.conflict_rate),
    ):
        yield Family(name, text, [Sample(value)])


def _of_coherence(found: Coherence) -> Iterator[Family]:
    pairs: dict[tuple[str, str, str], list[float]] = {}
    for each in found.divergences:
        sums = pairs.setdefault((each.before, each.after, each.label[0]), [0.0, 0.0, 0.0])
        sums[0] = max(sums[0], each.max_seconds)
        sums[1] += each.pairs
        sums[2] += each.moved
    worst = sorted(pairs.items(), key=lambda item: (-item[1][2], -item[1][0], item[0]))[:MOST]
    named = [(dict(zip(("before", "after", "statement"), pair, strict=True)), sums) for pair, sums in worst]
    for at, name, text in (
        (0, "pair_divergence_max_seconds", "Inter-step divergence by pair of super-steps and statement."),
        (1, "pair_divergence_pairs", "Pairs, by nodes of the super-steps and statement."),
        (2, "pair_divergence_moved", "Of these, those whose value had moved."),
    ):
        yield Family(name, text, [Sample(sums[at], labels) for labels, sums in named])
    keys: dict[str, list[float]] = {}
    for key in found.conflicts:
        both = keys.setdefault(key.label[0], [0.0, 0.0])
        both[0] += key.attempts
        both[1] += key.conflicts
    hottest = sorted(keys.items(), key=lambda item: (-item[1][1], -item[1][0], item[0]))[:MOST]
    for at, name, text in (
        (0, "statement_conflict_attempts", "Attempts of super-steps that rested on what the statement says."),
        (1, "statement_conflicts", "Of these, those that came to nothing because it had moved."),
    ):
        yield Family(name, text, [Sample(both[at], {"statement": statement}) for statement, both in hottest])


def _of_steps(found: Metrics) -> Iterator[Family]:
    for name, text, field, scale in (
        ("steps", "Committed super-steps.", "steps", 1),
        ("step_attempts", "Attempts of committed super-steps.", "attempts", 1),
        ("step_repairs", "Commits that were repeated although no fact had changed.", "repairs", 1),
        ("step_drifts", "Tasks that ran again because their facts had changed.", "drifts", 1),
        ("step_escalations", "Super-steps that took turns.", "escalations", 1),
        ("step_replay_commits", "Super-steps that repeated their reads to commit.", "replays", 1),
        ("step_reads", "Facts that commits rest on.", "reads", 1),
        ("step_writes", "Staged writes that were applied.", "writes", 1),
        ("step_llm_reused", "Answers of models that were served again.", "llm_reused", 1),
        ("step_waited_seconds", "Seconds waited for turns.", "waited_ms", 1000),
        ("step_p50_seconds", "Time of a super-step, all attempts: the median.", "p50_ms", 1000),
        ("step_p95_seconds", "Time of a super-step, all attempts: 95 of 100 took less.", "p95_ms", 1000),
    ):
        samples = [Sample(_scaled(getattr(s, field), scale), {"graph": s.graph or ""}) for s in found.steps]
        yield Family(name, text, samples)
    flows = [Sample(each.flows, {"graph": each.graph or "", "status": each.status}) for each in found.flows]
    yield Family("flows", "Threads that have changed, by how their last run ended.", flows)


def _of_calls(found: Metrics) -> Iterator[Family]:
    for name, text, field, scale in (
        ("llm_calls", "Calls of models.", "calls", 1),
        ("llm_calls_failed", "Calls that no deployment answered.", "failed", 1),
        ("llm_input_tokens", "Tokens sent.", "input_tokens", 1),
        ("llm_output_tokens", "Tokens received.", "output_tokens", 1),
        ("llm_cost_usd", "US dollars, as far as prices are known.", "usd", 1),
        ("llm_p50_seconds", "Time of an answered call: the median.", "p50_ms", 1000),
        ("llm_p95_seconds", "Time of an answered call: 95 of 100 took less.", "p95_ms", 1000),
    ):
        samples = [
            Sample(_scaled(value, scale), {"provider": each.provider or "", "model": each.model or ""})
            for each in found.calls
            if (value := getattr(each, field)) is not None
        ]
        yield Family(name, text, samples)
    yield from _of_deployments(found)


def _of_deployments(found: Metrics) -> Iterable[Family]:
    for name, text, field in (
        ("llm_requests", "Requests to a deployment.", "requests"),
        ("llm_requests_failed", "Requests that it did not answer.", "failed"),
    ):
        samples = [Sample(getattr(each, field), {"deployment": each.deployment}) for each in found.deployments]
        yield Family(name, text, samples)


def _scaled(value: float, scale: int) -> float:
    return value if scale == 1 else value / scale
