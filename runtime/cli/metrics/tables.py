"""What was measured, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.cli.render import count, moment, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from superstep.checkpointer import Coherence, Metrics

__all__ = ["print_metrics"]


def print_metrics(found: Metrics, out: Console) -> None:
    """Print a summary of the measures, then each table that has lines."""
    about = f" · {found.graph}" if found.graph else ""
    out.print(f"{moment(found.since)} to {moment(found.until)}{about}", style="bold", soft_wrap=True)
    if not (found.steps or found.calls or found.flows):
        out.print("Nothing has run in that time. Look further back with --since 30d.")
        return
    _print_measures(found, out)
    if found.coherence_since > found.since:
        note = f"Coherence since {moment(found.coherence_since)}: for more, give --most-steps."
        out.print(note, style="yellow", soft_wrap=True)
    _print_coherence(found.coherence, out)
    _print_work(found, out)


def _print_measures(found: Metrics, out: Console) -> None:
    totals = found.coherence.totals
    rows = [
        (
            "inter-step divergence",
            f"{_seconds(totals.max_seconds)} at most",
            f"{totals.moved} of {totals.pairs} values had moved, {_seconds(totals.mean_seconds)} on average",
        ),
        (
            "parallel-read skew",
            f"{_seconds(totals.max_skew)} at most",
            f"{totals.differing} of {totals.compared} keys differed between tasks",
        ),
        _share("plan invalidation", totals.invalidated, totals.guarded, "guarded hand-offs"),
        _share("reconciliation delta", found.reconciled_differing, found.reconciled, "flows that decided again"),
        _share("write conflicts", totals.conflicts, totals.attempts, "attempts"),
    ]
    table([("measure", "whole"), ("figure", "right"), ("of", "")], rows, out)


def _print_coherence(found: Coherence, out: Console) -> None:  # long: four tables, one after the other
    _lines(
        "pair, key, >pairs, >moved, >most, >mean",
        [
            (
                f"{each.before} → {each.after}",
                _key(each.label),
                each.pairs,
                each.moved,
                _seconds(each.max_seconds),
                _seconds(each.mean_seconds),
            )
            for each in found.divergences
        ],
        out,
    )
    _lines(
        "key seen otherwise by parallel tasks, >steps, >values, >most",
        [(_key(each.label), each.steps, each.differing, _seconds(each.max_seconds)) for each in found.skews],
        out,
    )
    _lines(
        "key that moved under attempts, >attempts, >conflicts, >rate",
        [
            (_key(each.label), each.attempts, each.conflicts, _percent(each.conflict_rate))
            for each in found.conflicts
            if each.conflicts
        ],
        out,
    )
    _lines(
        "=flow, >steps, >moved, >most, >skew, >plans invalid, >conflicts",
        [
            (
                each.thread_id,
                each.steps,
                f"{each.moved} of {each.pairs}",
                _seconds(each.max_seconds),
                _seconds(each.max_skew),
                f"{each.invalidated} of {each.guarded}" if each.guarded else "",
                each.conflicts,
            )
            for each in found.flows
            if each.moved or each.differing or each.max_skew or each.invalidated or each.conflicts
        ],
        out,
    )


def _print_work(found: Metrics, out: Console) -> None:  # long: tables, one after the other
    _lines(
        "graph, >steps, >p50 ms, >p95 ms, >attempts, >repairs, >drifts, >turns, >LLM reused",
        [
            (
                each.graph or "?",
                each.steps,
                f"{each.p50_ms:.1f}",
                f"{each.p95_ms:.1f}",
                each.attempts,
                each.repairs,
                each.drifts,
                each.escalations,
                each.llm_reused,
            )
            for each in found.steps
        ],
        out,
    )
    _lines(
        "provider, model, >calls, >failed, >tokens in, >tokens out, >$, >p50 ms, >p95 ms",
        [
            (
                each.provider or "?",
                "no model is asked" if each.offline else each.model or "?",
                each.calls,
                each.failed,
                each.input_tokens,
                each.output_tokens,
                "unknown" if each.usd is None else f"{each.usd:.4f}",
                "" if each.p50_ms is None else f"{each.p50_ms:.0f}",
                "" if each.p95_ms is None else f"{each.p95_ms:.0f}",
            )
            for each in found.calls
        ],
        out,
    )
    _lines(
        "deployment, >requests, >failed, >error rate",
        [(each.deployment, each.requests, each.failed, _percent(each.error_rate)) for each in found.deployments],
        out,
    )
    ended = ", ".join(f"{each.flows} {each.status} ({each.graph or '?'})" for each in found.flows)
    if ended:
        out.print(f"{count(sum(each.flows for each in found.flows), 'flow')}: {ended}", soft_wrap=True)


def _lines(columns: str, rows: Iterable[Sequence[object]], out: Console) -> None:
    """Print a table if it has lines. Names of columns of numbers begin with ">", what must stay whole with "="."""
    sides = {">": "right", "=": "whole"}
    if rows := list(rows):
        named = [(name.lstrip(">="), sides.get(name[:1], "")) for name in columns.split(", ")]
        table(named, rows, out)


def _share(name: str, part: int, whole: int, of: str) -> tuple[str, str, str]:
    return name, _percent(part / whole) if whole else "-", f"{part} of {whole} {of}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _key(label: tuple[str, str]) -> str:
    statement, arguments = label
    return f"{statement} [{arguments}]" if arguments else statement


def _seconds(seconds: float) -> str:
    """A length of time with three figures."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min" if seconds < 36_000 else _hours(seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h"
