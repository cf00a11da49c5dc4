"""Prompts with versions.

A prompt is a chat template with typed variables, under a name. Its versions are numbered and never change; labels such
as `production` point at versions and can be moved while flows run. Files are the source for a repository, the database
is the source for a running system.

- `folder`, `documents`, `drafts`: from files to checked drafts, with everything they include bundled;
- `content`: what a version says, and its digest;
- `prompt`, `variables`, `values`, `templates`: checking variables and rendering;
- `store`: versions and labels in the database, over any connection like asyncpg's;
- `labels`: names, and which threads a canary gets;
- `cases`, `rules`: golden cases; `text`: a version as text for people.
"""

from __future__ import annotations

from prompts.cases import Case
from prompts.content import Content
from prompts.drafts import Draft
from prompts.folder import read_prompts
from prompts.labels import CANARY, PRODUCTION, not_found, point_of
from prompts.prompt import Prompt, VersionedPromptValue, load_prompt
from prompts.rules import Answer, failures
from prompts.sql import queries
from prompts.store import PromptStore
from prompts.stored import Added, Label, Move, PromptSummary, Target, Version
from prompts.text import differences, readable

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
    "queries",
    "not_found",
    "point_of",
    "CANARY",
    "PRODUCTION",
]
