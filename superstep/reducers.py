"""Reducers with defined conflict semantics, for channels of a LangGraph state and for state that all threads share.

    class State(TypedDict):
        findings: Annotated[list[dict], append(key="id")]

    shared("plan", reducer=merge(steps=append(key="id")), model=Plan)

See docs/reducers.md.
"""

from superstep.checkpointer import (
    ABSENT,
    Conflict,
    Merged,
    Shared,
    SharedUpdate,
    Swap,
    append,
    compare_and_set,
    conflicts_in,
    last_writer,
    maximum,
    merge,
    minimum,
    reject,
    swap,
)
from superstep.checkpointer import declare_shared as shared

__all__ = [
    "ABSENT",
    "Conflict",
    "Merged",
    "Shared",
    "SharedUpdate",
    "Swap",
    "append",
    "compare_and_set",
    "conflicts_in",
    "last_writer",
    "maximum",
    "merge",
    "minimum",
    "reject",
    "shared",
    "swap",
]
