"""Prompts with versions.

A prompt is a chat template with typed variables, under a name. Its versions are numbered and never change; labels such
as `production` point at versions and can be moved while flows run. Files are the source for a repository, the database
is the source for a running system.

The rooms, each of which imports only those below it:

- `store`: versions and labels in the database, over any connection like asyncpg's;
- `files`: from files to checked drafts, with everything they include bundled;
- `rendering`: a version with values for its variables becomes messages, or text for people;
- `model`: what a version says: content, variables, labels, golden cases and their rules. Pure.
"""

from __future__ import annotations

from superstep.prompts.files.drafts import Draft
from superstep.prompts.files.folder import read_prompts
from superstep.prompts.model.cases import Case
from superstep.prompts.model.content import Content
from superstep.prompts.model.labels import CANARY, PRODUCTION, not_found, point_of
from superstep.prompts.model.rules import Answer, failures
from superstep.prompts.rendering.prompt import Prompt, VersionedPromptValue, load_prompt
from superstep.prompts.rendering.text import differences, readable
from superstep.prompts.store import in_step
from superstep.prompts.store.rows import Added, Label, Move, PromptSummary, Target, Version
from superstep.prompts.store.store import PromptStore

__all__ = [
    "Prompt",
    "VersionedPromptValue",
    "PromptStore",
    "PromptSummary",
    "Version",
    "Label",
    "Target",
    "Move",
    "Added",
    "Content",
    "Draft",
    "read_prompts",
    "Case",
    "Answer",
    "failures",
    "readable",
    "differences",
    "load_prompt",
    "in_step",
    "not_found",
    "point_of",
    "CANARY",
    "PRODUCTION",
]
