"""What the database holds of prompts, as the store returns it. Pure data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.prompts.model.cases import Case
from superstep.prompts.model.content import Content
from superstep.prompts.rendering.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Added", "Label", "Move", "PromptSummary", "Target", "Version"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a label points at. `weight`: share of threads from 0 to 1 that get a canary when they ask for production."""

    version: int
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a prompt, and when it was moved last."""

    label: str
    target: Target
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """One prompt: its latest version with that one's description and time, and its labels."""

    name: str
    latest: int
    description: str
    created_at: datetime
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One version, with what is kept beside its content, and the labels that point at it."""

    name: str
    version: int
    digest: str
    content: Content
    cases: tuple[Case, ...]
    description: str
    created_at: datetime
    labels: tuple[Label, ...] = field(default=())

    @classmethod
    def of_row(cls, row: Mapping[str, Any], labels: tuple[Label, ...]) -> Version:
        """Read a row.

        Raises:
            PromptInvalid: This release cannot read it.
        """
        found = dict(row)
        content = Content.load(json.loads(found.pop("content")), f"{found['name']}@{found['version']}")
        cases = tuple(Case(**each) for each in json.loads(found.pop("cases")))
        mine = tuple(each for each in labels if each.target.version == found["version"])
        return cls(**found, content=content, cases=cases, labels=mine)

    @property
    def title(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def prompt(self) -> Prompt:
        """The version, ready to render."""
        return Prompt(self.name, self.version, self.content, digest=self.digest, description=self.description)


@dataclass(frozen=True, slots=True)
class Move:
    """What moving a label came to. `before` is `None` for a new label; equal to `after` if there was nothing to do."""

    name: str
    label: str
    before: Target | None
    after: Target

    @property
    def changed(self) -> bool:
        """Whether the label points elsewhere now."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Added:
    """What adding a draft came to: the version that has its content, and whether that is new."""

    name: str
    version: int
    new: bool
    notes_replaced: bool = False
    move: Move | None = None
