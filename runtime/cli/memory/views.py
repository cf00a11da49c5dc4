"""What `runtime memory` prints, for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import moment, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from superstep.checkpointer import Memory

__all__ = ["memory_object", "print_memories"]

SHOWN = 200  # characters of a value


def memory_object(found: Memory) -> dict[str, Any]:
    """One item as JSON."""
    origin = None if found.origin is None else asdict(found.origin)
    return {**asdict(found), "namespace": list(found.namespace), "origin": origin}


def print_memories(found: Sequence[Memory], out: Console) -> None:
    """Print items in the order in which they were found."""
    if not found:
        out.print("There is nothing in the memory here.")
        return
    scored = any(each.score is not None for each in found)
    columns = [("namespace", ""), ("key", ""), ("value", ""), ("by", ""), ("changed", "whole")]
    rows = [
        (" / ".join(each.namespace), each.key, _shortened(each.value), _by(each), moment(each.updated_at))
        for each in found
    ]
    if scored:
        columns = [("score", "right"), *columns]
        rows = [(f"{each.score or 0:.3f}", *row) for each, row in zip(found, rows, strict=True)]  # type: ignore[misc]
    table(columns, rows, out)


def _shortened(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _by(found: Memory) -> str:
    """The node and the thread that put it."""
    return "" if found.origin is None else f"{found.origin.node} of {found.origin.thread_id}"
