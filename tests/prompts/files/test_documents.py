"""Prompt files: what they may say, and how what is wrong in them is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.prompts import Prompt, read_prompts
from superstep.prompts.files import documents
from superstep.prompts.files.drafts import draft
from superstep.prompts.model.content import Example, Message, Variable
from superstep.prompts.rendering.templates import Piece
from tests.support.prompts import markdown, prompt_of, said, toml

if TYPE_CHECKING:
    from pathlib import Path

MARKDOWN = """---
description: Says hello
route: fast
parameters: {temperature: 0}
variables:
  who: str
  day: {type: date, default: 2024-01-31}
  past: messages
examples:
  - {input: a, output: b}
---

system:

Be kind.

placeholder: past
examples:
user:
Hello {{ who }}

on {{ day }}
assistant:
I
"""

TOML = """
description = "Says hello"
route = "fast"
[parameters]
temperature = 0
[variables]
who = "str"
day = {type = "date", default = 2024-01-31}
past = "messages"
[[messages]]
role = "system"
content = "Be kind."
[[messages]]
role = "placeholder"
name = "past"
[[messages]]
role = "examples"
[[messages]]
role = "user"
content = '''
Hello {{ who }}

on {{ day }}
'''
[[messages]]
role = "assistant"
content = "I"
[[examples]]
input = "a"
output = "b"
"""


def test_both_formats_say_the_same() -> None:
    one, other = markdown(MARKDOWN), toml(TOML)
    assert one.content == other.content
    assert one.content.digest == other.content.digest
    assert one.description == "Says hello"
    assert one.content.variables["day"] == Variable("date", default="2024-01-31")
    assert one.content.examples == (Example("a", "b"),)


def test_the_example_of_the_manual() -> None:
    text = (documents.__doc__ or "").split("in both forms:\n\n")[1].split("\n\nBoth may")[0]
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    halves = ["\n".join(part(line) for line in lines) for part in (lambda it: it[:44].rstrip(), lambda it: it[44:])]
    law = {"shared/law.md": "No more than the law allows."}
    one = toml(halves[0], files=law)
    other = draft(
        documents.read_document(halves[1], "p.md", markdown=True), "p", lambda name: Piece(law[name], name, name)
    )
    assert one.content == other.content
    assert said(Prompt("p", 1, one.content), account={"id": 1}) == [
        ("system", "Be brief.\nNo more than the law allows."),
        ("human", 'Is {"id": 1} in order?'),
    ]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ("Hello\n\nthere", [Message("user", "Hello\n\nthere")]),
        ("\nuser:\nsystem: is no line of its own\n", [Message("user", "system: is no line of its own")]),
        ("user:  \nx\r\n", [Message("user", "x")]),
    ],
)
def test_bodies_of_markdown(tmp_path: Path, body: str, messages: list[Message]) -> None:
    (tmp_path / "p.md").write_text(f"---\n---\n{body}", encoding="utf-8", newline="")
    [made] = read_prompts([tmp_path])
    assert list(made.content.messages) == messages


def test_examples_come_before_the_last_user_message_by_default() -> None:
    roles = ("user", "assistant", "user", "assistant")
    messages = "".join(f'[[messages]]\nrole = "{role}"\ncontent = "{at}"\n' for at, role in enumerate(roles))
    prompt = prompt_of(messages + '[[examples]]\ninput = "in"\noutput = "out"')
    assert [text for _, text in said(prompt)] == ["0", "1", "in", "out", "2", "3"]


def test_an_include_keeps_the_end_of_its_line_and_other_tags_do_not() -> None:
    prompt = prompt_of("""
        [partials]
        a = "A"
        [[messages]]
        role = "user"
        content = '''
{% include "a" %}
{% include 'a' -%}
x {% include "a" %} y
{% if true %}
  {% include "a" %}
{% endif %}
{% raw %}{% include "a" %}
{% endraw %}{# {% include "a" %}
#}end'''
    """)
    assert said(prompt) == [("human", 'A\nAx A y\nA\n{% include "a" %}\nend')]
