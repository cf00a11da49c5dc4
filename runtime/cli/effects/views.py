"""What `runtime effects` prints, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import moment, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from superstep.checkpointer import OutboxEffect

__all__ = ["effect_object", "print_effects"]


def effect_object(found: OutboxEffect) -> dict[str, Any]:
    """One effect as JSON."""
    return asdict(found)


def print_effects(found: Sequence[OutboxEffect], out: Console, *, dead: bool) -> None:
    """Print effects in the order in which they were found."""
    if not found:
        out.print("No effect was given up." if dead else "There are no effects.")
        return
    columns = [("id", "whole"), ("topic", ""), ("key", ""), ("state", ""), ("tries", "right"), ("thread", "")]
    columns += [("changed", "whole"), ("failure", "")]
    rows = [
        (
            each.id,
            each.topic,
            each.key or "",
            each.state if each.stands_for is None else f"{each.state} for {each.stands_for}",
            str(each.attempts),
            each.thread_id,
            moment(each.changed_at),
            each.failure or "",
        )
        for each in found
    ]
    table(columns, rows, out)
