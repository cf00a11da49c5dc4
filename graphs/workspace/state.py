"""State of the workspace flow. Files are not in it, only edits: what the files are stands in the database."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from langgraph.channels import EphemeralValue

__all__ = ["Change", "Edit", "State", "Status", "by_agent"]

Status = Literal["open", "approved", "merged", "nothing", "given_up"]


class Edit(TypedDict):
    """Replace a text that stands in a file exactly once. An empty `old` makes a new file."""

    path: str
    old: str
    new: str


class Change(TypedDict):
    """One agent's work. `code` and `review` get it as their input, and hand it on.

    Attributes:
        base: the merge whose files the edits were made on.
        feedback: why it is to edit again; empty at first.
        rounds: how often it has edited.
        reviewed: digest of the diff that was approved; empty until then.
        moved: the diff was approved once, and has become another one since.
        note: how it ended, or what the agent or the reviewer said last.
    """

    agent: str
    task: str
    status: Status
    base: int
    edits: list[Edit]
    feedback: str
    rounds: int
    reviewed: str
    moved: bool
    note: str


def by_agent(left: dict[str, Change], right: dict[str, Change]) -> dict[str, Change]:
    """Reducer: each agent's latest change."""
    return {**left, **right}


class State(TypedDict):
    """Channels of the flow. `tasks` is the input, one for each agent; `changes` is what became of them."""

    tasks: Annotated[list[str], EphemeralValue]
    changes: NotRequired[Annotated[dict[str, Change], by_agent]]
