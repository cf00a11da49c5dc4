"""What `runtime collection` prints, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import count, moment, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from superstep.runtime.cli.collections.adding import Added

__all__ = ["added_object", "print_added", "print_collections", "print_found"]

SHOWN = 200  # characters of a text
SKIPPED = 10  # files that are named


def added_object(name: str, added: Added, *, indexed: bool) -> dict[str, Any]:
    """What adding came to, as JSON."""
    return {"collection": name, **asdict(added), "indexed": indexed}


def print_added(name: str, added: Added, out: Console, *, indexed: bool) -> None:
    """Print what adding came to."""
    parts = [f"{added.added} added", f"{added.kept} unchanged"]
    if added.removed:
        parts.append(f"{count(len(added.removed), 'file')} gone")
    out.print(f"{name}: {count(added.files, 'file')}, {', '.join(parts)}{', indexed' if indexed else ''}")
    for path, why in list(added.skipped.items())[:SKIPPED]:
        out.print(f"  skipped: {why if path in why else f'{path}: {why}'}", soft_wrap=True)
    if len(added.skipped) > SKIPPED:
        out.print(f"  and {len(added.skipped) - SKIPPED} more files that are no texts")


def print_collections(found: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print collections by name."""
    if not found:
        out.print("No collections yet. Make one of files with: runtime collection add NAME PATH")
        return
    columns = [
        ("collection", "whole"),
        ("rows", "right"),
        ("dimensions", "right"),
        ("precision", ""),
        ("size", "right"),
    ]
    rows = [
        (
            each["name"],
            each["rows"],
            each["dimensions"],
            each["precision"],
            f"{(each['bytes'] or 0) / 1e6:.1f} MB",
            "HNSW" if each["indexed"] else "none: exact",
            each["language"],
            moment(each["created_at"]),
        )
        for each in found
    ]
    table([*columns, ("index", ""), ("language", ""), ("made", "whole")], rows, out)


def print_found(rows: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print rows that a search has found, the nearest first."""
    if not rows:
        out.print("Nothing matches.")
    for row in rows:
        text = " ".join(row["content"].split())
        source = row["metadata"].get("source")
        measure = f"{row['distance']:.4f}" + (f" · score {row['score']:.4f}" if "score" in row else "")
        out.print(f"{measure}  {source or row['id']}", style="bold", soft_wrap=True)
        out.print(f"  {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}", soft_wrap=True)
