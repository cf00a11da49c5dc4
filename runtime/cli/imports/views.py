"""What `runtime import` prints, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import count, table

if TYPE_CHECKING:
    from rich.console import Console

    from superstep.checkpointer import Imported

__all__ = ["imported_object", "print_imported"]


def imported_object(done: Imported) -> dict[str, Any]:
    """What was imported, as JSON."""
    threads = done.threads["imported"] + done.threads["continued"]
    return {
        "threads": done.threads,
        "read": {"threads": threads + done.threads["refused"], **done.read._asdict()},
        "stored": {"threads": threads, **done.stored._asdict()},
        "strays": done.strays,
        "refused": [{"thread_id": each.thread_id, "why": each.why} for each in done.refused],
        "changed": [{"thread_id": each.thread_id, "why": each.why} for each in done.changed],
        "dry_run": done.dry_run,
    }


def print_imported(done: Imported, out: Console) -> None:
    """Print what was imported."""
    found = imported_object(done)
    rows = [(name, f"{found['read'][name]:,}", f"{found['stored'][name]:,}") for name in found["read"]]
    table([("", "whole"), ("read", "right"), ("would be stored" if done.dry_run else "stored", "right")], rows, out)
    threads = done.threads
    if threads["continued"]:
        out.print(f"{count(threads['continued'], 'thread')} had been imported before, and got what came since.")
    if threads["there"]:
        out.print(f"{count(threads['there'], 'thread')} had been imported before, and is the same.")
    if done.strays:
        out.print(f"{count(done.strays, 'write')} of checkpoints that are not there were left out.")
    for each in done.changed:
        out.print(f"{each.thread_id} was left as it is: {each.why}.", style="yellow", soft_wrap=True)
    for each in done.refused:
        out.print(f"{each.thread_id} was refused: {each.why}", style="red", soft_wrap=True)
