"""What `runtime prompts` prints, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.prompts import CANARY, readable
from superstep.runtime.cli.render import count, moment, table
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from superstep.prompts import Added, Label, Move, PromptSummary, Target, Version
    from superstep.runtime.cli.prompts.golden import CaseAnswer, CaseResult

__all__ = [
    "added_object",
    "full_object",
    "move_object",
    "print_added",
    "print_differences",
    "print_move",
    "print_prompts",
    "print_results",
    "print_version",
    "print_versions",
    "results_object",
    "summary_object",
    "version_object",
]

SHOWN = 300  # characters of an answer that failed
DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def _share(weight: float | None) -> str:
    """A canary's share of threads."""
    return "no share" if weight is None else f"{weight * 100:g}%"


def _target(at: Target, label: str) -> str:
    """What a label points at."""
    return f"{at.version} ({_share(at.weight)})" if label == CANARY else str(at.version)


def _labels_object(labels: Sequence[Label]) -> dict[str, Any]:
    """Labels as JSON, by name."""
    return {each.label: {**asdict(each.target), "moved_at": each.moved_at} for each in labels}


def summary_object(found: PromptSummary) -> dict[str, Any]:
    """One prompt as JSON."""
    return {
        "name": found.name,
        "latest": found.latest,
        "labels": _labels_object(found.labels),
        "description": found.description,
        "created_at": found.created_at,
    }


def version_object(found: Version) -> dict[str, Any]:
    """One version as JSON, without what it says."""
    return {
        "name": found.name,
        "version": found.version,
        "digest": found.digest,
        "labels": _labels_object(found.labels),
        "description": found.description,
        "created_at": found.created_at,
        "cases": len(found.cases),
    }


def full_object(found: Version) -> dict[str, Any]:
    """One version as JSON, with all it says."""
    return {**version_object(found), **found.content.dump(), "cases": [asdict(each) for each in found.cases]}


def added_object(added: Added) -> dict[str, Any]:
    """What adding a file came to, as JSON."""
    return {
        "name": added.name,
        "version": added.version,
        "new": added.new,
        "label": added.move.label if added.move else None,
        "label_moved": added.move.changed if added.move else False,
    }


def move_object(move: Move) -> dict[str, Any]:
    """What moving a label came to, as JSON."""
    before = None if move.before is None else asdict(move.before)
    return {
        "name": move.name,
        "label": move.label,
        "before": before,
        "after": asdict(move.after),
        "changed": move.changed,
    }


def print_prompts(found: Sequence[PromptSummary], out: Console) -> None:
    """Print prompts by name."""
    if not found:
        out.print("No prompts yet. Write them as files in prompts/, and bring them in with: runtime prompts add")
        return
    rows = [(each.name, each.latest, _labels(each.labels, versions=True), each.description) for each in found]
    table([("prompt", "whole"), ("latest", "right"), ("labels", ""), ("description", "")], rows, out)


def print_versions(found: Sequence[Version], out: Console) -> None:
    """Print the versions of one prompt, the first one first."""
    rows = [
        (
            each.version,
            _labels(each.labels),
            len(each.cases),
            each.description,
            moment(each.created_at),
            each.digest[:12],
        )
        for each in found
    ]
    columns = [("version", "right"), ("labels", ""), ("cases", "right"), ("description", ""), ("added", "whole")]
    table([*columns, ("digest", "whole")], rows, out)


def print_version(found: Version, out: Console) -> None:
    """Print what a version says."""
    labels = f" · {_labels(found.labels)}" if found.labels else ""
    out.print(f"{found.title}{labels} · added {moment(found.created_at)}", style="bold", soft_wrap=True)
    if found.description:
        out.print(found.description, soft_wrap=True)
    out.print(readable(found.content).rstrip(), soft_wrap=True)
    if found.cases:
        out.print(
            f"{count(len(found.cases), 'golden case')}: runtime prompts test {shell_word(found.name)}", soft_wrap=True
        )


def print_differences(lines: Sequence[str], out: Console) -> None:
    """Print a unified diff."""
    if not lines:
        out.print("They say the same.")
    for line in lines:
        out.print(line, style=DIFF_STYLES.get(line[:1], ""), soft_wrap=True)


def print_added(added: Sequence[Added], out: Console) -> None:
    """Print what adding files came to."""
    for each in added:
        news = "new" if each.new else "notes replaced" if each.notes_replaced else "unchanged"
        out.print(f"{each.name}@{each.version}: {news}", soft_wrap=True)
        if each.move is not None and each.move.changed:
            print_move(each.move, out)


def print_move(move: Move, out: Console) -> None:
    """Print what moving a label came to."""
    now = _target(move.after, move.label)
    before = f"{_target(move.before, move.label)} " if move.before is not None else ""
    moved = f"{before}→ {now}" if move.changed else f"points at {now} already"
    out.print(f"{move.name}: {move.label} {moved}", soft_wrap=True)
    if move.label == CANARY and not move.after.weight:
        hint = f"runtime prompts promote {shell_word(move.name)} {move.after.version} --label {CANARY} --weight 10%"
        out.print(f"No thread gets it until it has a share: {hint}", style="yellow", soft_wrap=True)


def results_object(version: Version, results: Sequence[CaseResult]) -> dict[str, Any]:
    """Results of golden cases as JSON."""
    cases = [
        {
            "name": each.given.case.name,
            "passed": each.passed,
            "failures": list(each.failures),
            "answer": each.given.answer.text,
            "output_tokens": each.given.answer.tokens,
            "model": each.given.model,
            "offline": each.given.offline,
            "ms": each.given.ms,
        }
        for each in results
    ]
    return {"prompt": version.title, "passed": all(each.passed for each in results), "cases": cases}


def print_results(version: Version, results: Sequence[CaseResult], out: Console) -> None:
    """Print results of golden cases, and the answers of those that failed."""
    columns = [("case", ""), ("result", ""), ("tokens", "right"), ("ms", "right"), ("what is wrong", "")]
    rows = [
        (
            each.given.case.name,
            "passed" if each.passed else "failed",
            "" if each.given.answer.tokens is None else each.given.answer.tokens,
            f"{each.given.ms:.0f}",
            "\n".join([*each.failures, f"answer: {_cut(each.given.answer.text)}"] if each.failures else []),
        )
        for each in results
    ]
    table(columns, rows, out)
    passed = sum(each.passed for each in results)
    models = ", ".join(sorted({_model(each.given) for each in results}))
    line = f"{version.title}: {passed} of {len(results)} passed · {models}"
    out.print(line, style="green" if passed == len(results) else "red", soft_wrap=True)


def _model(given: CaseAnswer) -> str:
    return "offline model, deterministic answers" if given.offline else given.model


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"


def _labels(labels: Sequence[Label], *, versions: bool = False) -> str:
    """Labels in one line, with the versions they point at where those are not plain to see."""
    if versions:
        return ", ".join(f"{each.label} → {_target(each.target, each.label)}" for each in labels)
    return ", ".join(
        f"{each.label} {_share(each.target.weight)}" if each.label == CANARY else each.label for each in labels
    )
