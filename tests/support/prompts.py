"""Drafts from a few lines of text, and a store on a fresh database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.prompts import Draft, Prompt, PromptStore
from superstep.prompts.files.documents import read_document
from superstep.prompts.files.drafts import draft
from superstep.prompts.rendering.templates import Piece

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


HELLO = """
[variables]
who = "str"
[[messages]]
role = "user"
content = "Hello {{ who }}"
"""


def toml(text: str, name: str = "p", files: Mapping[str, str] | None = None) -> Draft:
    """The draft of a TOML file called `p.toml`, in a folder with other files."""

    def find(wanted: str) -> Piece | None:
        return Piece(files[wanted], wanted, wanted, 1) if files and wanted in files else None

    return draft(read_document(text, "p.toml", markdown=False), name, find)


def markdown(text: str, name: str = "p") -> Draft:
    """The draft of a Markdown file called `p.md`."""
    return draft(read_document(text, "p.md", markdown=True), name, lambda _: None)


def prompt_of(text: str, files: Mapping[str, str] | None = None) -> Prompt:
    """Version 3 of the prompt `p`, from a TOML file."""
    made = toml(text, files=files)
    return Prompt(made.name, 3, made.content)


def one_message(content: str, **variables: str) -> Prompt:
    """A prompt of one user message."""
    declared = "".join(f'{name} = "{kind}"\n' for name, kind in variables.items())
    return prompt_of(f"[variables]\n{declared}[[messages]]\nrole = 'user'\ncontent = '''{content}'''")


def said(prompt: Prompt, **values: Any) -> list[tuple[str, str]]:
    """(role, text) of every message."""
    return [(each.type, each.text) for each in prompt.invoke(values).messages]


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


@pytest.fixture
def store(saver: TransactionalSaver) -> PromptStore:
    return PromptStore(saver.transaction)
