"""What `runtime ingest` prints, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import count, moment, table
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from superstep.checkpointer import (
        AggregateStatus,
        Counts,
        LateEvent,
        PartitionStatus,
        Pumped,
        Quarantined,
        ReplicaStatus,
        Signal,
    )

__all__ = [
    "late_object",
    "print_late",
    "print_pumped",
    "print_quarantine",
    "print_replayed",
    "print_signal",
    "print_status",
    "pumped_object",
    "quarantined_object",
    "signal_object",
    "status_object",
]

_SHOWN = 200  # characters of a body


def pumped_object(done: Pumped, outdated: Sequence[str], unfinished: Sequence[str]) -> dict[str, Any]:
    """What was ingested, as JSON."""
    rate = done.counts.events / done.seconds if done.seconds else 0.0
    return {
        **asdict(done.counts),
        "point": done.point,
        "batches": done.batches,
        "seconds": round(done.seconds, 3),
        "events_per_second": round(rate, 1),
        "rebuild": list(outdated),
        "unfinished": list(unfinished),
    }


def print_pumped(done: Pumped, outdated: Sequence[str], unfinished: Sequence[str], out: Console) -> None:
    """Print what was ingested."""
    counts = done.counts
    rate = f" in {done.seconds:.1f} s ({counts.events / done.seconds:,.0f}/s)" if counts.events else ""
    said = [f"{count(counts.events, 'event')} ingested{rate}"]
    said += [f"{counts.duplicates:,} known already"] if counts.duplicates else []
    said += [f"{counts.late:,} late"] if counts.late else []
    said += [f"{counts.ignored:,} ignored"] if counts.ignored else []
    said += [f"{counts.quarantined:,} quarantined"] if counts.quarantined else []
    out.print(" · ".join(said), soft_wrap=True)
    if counts.quarantined:
        out.print("See why with: runtime ingest quarantine", style="yellow", soft_wrap=True)
    for name in unfinished:
        out.print(f"The last line of {name} is not finished, and was left for the next time.", style="yellow")
    print_outdated(outdated, out)


def print_outdated(outdated: Sequence[str], out: Console) -> None:
    """Print which aggregates cannot be read."""
    for name in outdated:
        text = f"{name} cannot be read until it is built: runtime ingest rebuild {shell_word(name)}"
        out.print(text, style="yellow", soft_wrap=True)


def status_object(
    point: int,
    partitions: Sequence[PartitionStatus],
    aggregates: Sequence[AggregateStatus],
    replicas: Sequence[ReplicaStatus],
) -> dict[str, Any]:
    """How far ingestion is, as JSON."""
    return {
        "point": point,
        "partitions": [asdict(each) for each in partitions],
        "aggregates": [asdict(each) for each in aggregates],
        "replicas": [asdict(each) for each in replicas],
    }


def print_status(
    partitions: Sequence[PartitionStatus],
    aggregates: Sequence[AggregateStatus],
    replicas: Sequence[ReplicaStatus],
    out: Console,
) -> None:
    """Print how far ingestion is."""
    if partitions:
        columns = [("source", "whole"), ("partition", ""), ("offset", "right"), ("watermark", "whole")]
        columns += [(name, "right") for name in ("events", "known", "late", "ignored", "quarantined", "events/s")]
        rows = [
            (
                each.source,
                each.partition,
                each.position,
                moment(each.watermark),
                *(f"{number:,}" for number in (each.events, each.duplicates, each.late, each.ignored)),
                f"{each.quarantined:,}",
                "ended" if each.ended else f"{each.rate:,.0f}",
            )
            for each in partitions
        ]
        table(columns, rows, out)
    else:
        out.print("Nothing has been ingested yet. Begin with: runtime ingest FILE")
    if aggregates:
        columns = [("aggregate", "whole"), ("status", "whole"), ("computes", ""), ("of", ""), ("window", "")]
        rows = [(each.name, each.status, *_meaning(each.spec), each.late, each.misfits) for each in aggregates]
        table([*columns, ("late", "right"), ("misfits", "right")], rows, out)
    print_outdated([each.name for each in aggregates if each.status == "outdated"], out)
    if replicas:
        columns = [("replica", "whole"), ("status", "whole"), ("tables", ""), ("waiting", "right"), ("errors", "right")]
        table(columns, [(r.name, r.status, ", ".join(r.tables), r.waiting, r.errors) for r in replicas], out)
        for each in replicas:
            if each.what_to_do:
                out.print(each.what_to_do, style="yellow", soft_wrap=True)


def _meaning(spec: dict[str, Any]) -> tuple[str, str, str]:
    of = f"{spec.get('value', 'events')} by {', '.join(spec['key'])} of {', '.join(spec['events'])}"
    window = spec.get("window", "all time")
    slides = f" by {spec['step']}" if spec.get("step") not in (None, spec.get("window")) else ""
    late = f", {spec['lateness']} late" if "lateness" in spec else ""
    return ", ".join(spec["compute"]), of, f"{window}{slides}{late}"


def quarantined_object(found: Quarantined) -> dict[str, Any]:
    """One record in quarantine, as JSON. Bytes that are no text are written as escapes."""
    return {**asdict(found), "body": _text(found.body)}


def print_quarantine(found: Sequence[Quarantined], out: Console) -> None:
    """Print what is in quarantine."""
    if not found:
        out.print("Nothing is in quarantine.")
        return
    columns = [("source", "whole"), ("partition", ""), ("offset", "right"), ("reason", "whole"), ("why", "")]
    rows = [(e.source, e.partition, e.offset, e.reason, e.why, _cut(_text(e.body))) for e in found]
    table([*columns, ("record", "")], rows, out)
    out.print("When the cause is mended: runtime ingest replay", soft_wrap=True)


def print_replayed(counts: Counts, out: Console) -> None:
    """Print what a replay came to."""
    gone = counts.duplicates + counts.ignored
    said = f"{count(counts.events, 'event')} ingested · {counts.quarantined:,} still in quarantine"
    out.print(said + (f" · {gone:,} known already or ignored" if gone else ""), soft_wrap=True)


def late_object(found: LateEvent) -> dict[str, Any]:
    """One late event, as JSON."""
    return {**asdict(found), "behind": found.behind.total_seconds()}


def print_late(found: Sequence[LateEvent], out: Console) -> None:
    """Print late events."""
    if not found:
        out.print("No event was late for it.")
        return
    columns = [("source", "whole"), ("partition", ""), ("offset", "right"), ("type", ""), ("time", "whole")]
    rows = [(e.source, e.partition, e.offset, e.type, moment(e.at), e.behind) for e in found]
    table([*columns, ("behind", "right")], rows, out)


def signal_object(found: Signal) -> dict[str, Any]:
    """A signal, as JSON."""
    return asdict(found)


def print_signal(found: Signal, out: Console) -> None:
    """Print what an aggregate says of a key."""
    window = f" · {moment(found.since)} to {moment(found.until)}" if found.since else ""
    out.print(f"{found.name} of {found.key}{window} · point {found.point}", style="bold", soft_wrap=True)
    for function, value in found.values.items():
        shown = ", ".join(f"{each} ({number})" for each, number in value) if function == "top" else value
        out.print(f"  {function}: {shown}", soft_wrap=True)


def _text(body: bytes) -> str:
    return body.decode(errors="backslashreplace")


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
