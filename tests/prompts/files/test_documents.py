"""Prompt files: what they may say, and how what is wrong in them is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.prompts import Prompt, read_prompts
from superstep.prompts.files import documents
from superstep.prompts.files.drafts import draft
from superstep.prompts.model.content import Example, Message, Variable
from superstep.prompts.rendering.templates import Piece
from superstep.runtime.faults import PromptInvalid, PromptNotFound
from tests.support.prompts import HELLO, markdown, prompt_of, said, toml

if TYPE_CHECKING:
    from collections.abc import Mapping
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


def folder(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


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


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    folder(
        tmp_path,
        {
            "hello.toml": HELLO,
            "credit/plan.v2.md": "---\n---\nPlan",
            "credit/named.toml": 'name = "other/name"\n' + HELLO,
            "README.md": "# {{ Not }} {% a prompt",
            "shared/tone.txt": "{{ nothing }}",
        },
    )
    assert [each.name for each in read_prompts([tmp_path])] == ["credit/plan.v2", "hello", "other/name"]
    assert [each.name for each in read_prompts([tmp_path / "credit", tmp_path / "hello.toml"])] == [
        "hello",
        "other/name",
        "plan.v2",
    ]


def test_a_single_file_of_the_folder_prompts_has_its_path_as_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, {"prompts/credit/plan.toml": HELLO})
    monkeypatch.chdir(tmp_path)
    [made] = read_prompts([tmp_path / "prompts" / "credit" / "plan.toml", tmp_path / "prompts"])
    assert made.name == "credit/plan"


def test_includes_are_bundled_with_all_that_they_include(tmp_path: Path) -> None:
    files = {
        "p.toml": """
            [variables]
            who = "str"
            names = "list[str]"
            [partials]
            sign = "-- {{ who }}"
            unused = "{% include 'shared/unused.md' %}"
            [[messages]]
            role = "user"
            content = "{% include 'shared/tone.md' %} {% for name in names %}{% include 'name.txt' %}{% endfor %}"
        """,
        "shared/tone.md": "---\nnot: a prompt's messages\n---\nBe kind.\n{% include 'sign' %}\n",
        "name.txt": "{{ name }}{{ loop.index }};",
    }
    (tmp_path / "prompts").mkdir()
    root = folder(tmp_path / "prompts", files)
    made = read_prompts([root / "p.toml"])[0]
    assert set(made.content.includes) == {"shared/tone.md", "name.txt", "sign"}
    (root / "shared" / "tone.md").write_text("changed")
    prompt = Prompt("p", 1, made.content)
    assert said(prompt, who="Ada", names=["a", "b"]) == [("human", "Be kind.\n-- Ada a1;b2;")]
    assert read_prompts([root / "p.toml"])[0].content.digest != made.content.digest


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


def test_nothing_outside_of_the_folder_is_included(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    root = folder(tmp_path / "prompts", {"x.toml": "", "inner/y.txt": "y"})
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "inner", "inner/../../secret.txt"):
        (root / "x.toml").write_text(f"[[messages]]\nrole = 'user'\ncontent = '''{{% include \"{name}\" %}}'''")
        with pytest.raises(PromptInvalid, match=r"x\.toml, messages\[1\], line 1: includes '.*', which is neither"):
            read_prompts([root])


def user(content: str, more: str = "") -> str:
    return f"{more}\n[[messages]]\nrole = 'user'\ncontent = '''\n{content}'''"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\nx = = 1", r"p\.toml: not valid TOML: .* line 2"),
        ("", r"p\.toml: has no messages"),
        ("messages = 'x'", r"p\.toml, messages: must be a list of tables"),
        ("messages = ['x']", r"p\.toml, messages\[1\]: must be a table"),
        ("mesages = []", r"p\.toml: has an unknown key 'mesages' \(did you mean 'messages'\?\)"),
        ("colour = 1", r"unknown key 'colour'; keys are name, description"),
        (user("x", "route = 1"), r"p\.toml, route: must be a text, not int"),
        (user("x", "parameters = 1"), r"p\.toml, parameters: must be a table"),
        (user("x", "parameters = {a = nan}"), r"p\.toml, parameters: has a number that is not finite"),
        (user("x", "name = 'a b'"), r"'a b' is no name for a prompt"),
        (user("x", "name = '../a'"), r"no name for a prompt"),
        (user("x", "name = 'a@1'"), r"no name for a prompt"),
        (user("x", "variables = 1"), r"p\.toml, variables: must be a table"),
        (
            user("x", "[variables]\na = 'string'"),
            r"p\.toml, variables\.a: the type 'string' is not known. Types are str",
        ),
        (user("x", "[variables]\na = 1"), r"p\.toml, variables\.a: must be a table"),
        (user("x", "[variables]\na = {default = 1}"), r"variables\.a: the type '' is not known"),
        (
            user("x", "[variables]\na = {type = 'int', default = 'x'}"),
            r"variables\.a: the default must be int, not str",
        ),
        (user("x", "[variables]\na-b = 'str'"), r"'a-b' cannot be the name of a variable"),
        (user("x", "[variables]\n_a = 'str'"), r"'_a' cannot be the name of a variable"),
        (user("x", "[variables]\nin = 'str'"), r"'in' cannot be the name of a variable"),
        (user("x", "[variables]\nnone = 'str'"), r"'none' cannot be the name of a variable"),
        (user(""), r"p\.toml, messages\[1\]\.content: must say something"),
        (
            "[[messages]]\nrole = 'human'\ncontent = 'x'",
            r"messages\[1\]\.role: must be one of system, .*; it is 'human'",
        ),
        ("[[messages]]\nrole = 'placeholder'", r"messages\[1\]: `name` is the variable of a placeholder"),
        ("[[messages]]\nrole = 'user'\ncontent = 'x'\nname = 'a'", r"messages\[1\]: `name` is the variable"),
        ("[[messages]]\nrole = 'placeholder'\nname = 'past'", r"needs the variable 'past' with the type messages"),
        (
            "[variables]\npast = 'list'\n[[messages]]\nrole = 'placeholder'\nname = 'past'",
            r"needs the variable 'past' with the type messages",
        ),
        (user("{{ past }}", "[variables]\npast = 'messages'"), r"messages\[1\]: 'past' holds messages"),
        (
            user("x\n{{ nmae }}", "[variables]\nname = 'str'"),
            r"uses 'nmae', which .* not declare \(did you mean 'name'\?",
        ),
        (user("{% if a %}"), r"p\.toml, messages\[1\], line 1: .*[Ee]nd of template"),
        (user("x\n{{ 'a'|shout }}"), r"p\.toml, messages\[1\], line 2: No filter named 'shout'"),
        (user("x\n{% include 'nope' %}"), r"p\.toml, messages\[1\], line 2: includes 'nope', which is neither"),
        (user("{% include name %}"), r"line 1: an include must be"),
        (user("{% include 'a' ignore missing %}"), r"line 1: an include must be"),
        (user("{% extends 'a' %}"), r"line 1: templates cannot extend"),
        (user("{% from 'a' import b %}"), r"line 1: templates cannot extend"),
        (user("{% import 'a' as b %}"), r"line 1: templates cannot extend"),
        (user("{% include 'a' %}", "[partials]\na = 1"), r"p\.toml, partials\.a: must be a text"),
        (user("{% include 'a' %}", "[partials]\na = 'x{{ y }}'"), r"messages\[1\]: uses 'y', which"),
        (user("{% include 'a' %}", '[partials]\na = """x\n{% bad %}"""'), r"p\.toml, partials\.a, line 2: .*'bad'"),
        (
            user("{% include 'a' %}", "[partials]\na = '{% include \"b\" %}'\nb = '{% include \"a\" %}'"),
            r"p\.toml, partials\.b, line 1: 'a' includes 'b' includes 'a'\. Break the circle",
        ),
        (user("{% include 'a' %}", "[partials]\na = '{% include \"a\" %}'"), r"partials\.a, line 1: 'a' includes 'a'"),
        (
            user("{% include 'a' %}" * 2, "[partials]\na = '{% block b %}{% endblock %}'"),
            r"line 1: block 'b' defined twice",
        ),
        (user("x", "[[examples]]\ninput = 'x'"), r"p\.toml, examples\[1\]: needs both"),
        (user("x", "[[examples]]\ninput = 'x'\noutput = '{{ y }}'"), r"p\.toml, examples\[1\]\.output: uses 'y'"),
        (user("x") + "\n[[messages]]\nrole = 'examples'", r"has a message with role = 'examples', but no"),
        (
            user("x", "[[examples]]\ninput = 'x'\noutput = 'y'") + "\n[[messages]]\nrole = 'examples'" * 2,
            r"has two messages with role",
        ),
        (
            "[[messages]]\nrole = 'system'\ncontent = 'x'\n[[examples]]\ninput = 'x'\noutput = 'y'",
            r"has \[\[examples\]\] and no user message",
        ),
        ('description = "a\\u0000b"', r"p\.toml, description: has a character that cannot be stored"),
        ("a = " + "[" * 2000 + "]" * 2000, r"p\.toml: is nested too deep"),
    ],
)
def test_mistakes_in_toml(text: str, says: str) -> None:
    with pytest.raises(PromptInvalid, match=says):
        toml(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("---\nroute: fast\n", r"p\.md: the front matter has no end"),
        ("---\nroute: fast\nx: [\n---\n", r"p\.md, line \d+: the front matter is not valid YAML"),
        ("---\n- a\n---\n", r"p\.md: the front matter must be a table"),
        ("---\n1: a\n---\n", r"p\.md: the front matter must be a table"),
        ("---\nmessages: []\n---\nx", r"p\.md: the messages of a Markdown prompt are its body"),
        ("---\nvariables: {1: str}\n---\nx", r"p\.md, variables: must be a table"),
        ("---\n---\nx\nuser:\ny", r"p\.md, line 3: nobody says this text"),
        ("---\n---\n", r"p\.md, messages\[1\]\.content: must say something"),
        ("---\n---\n\nuser:\n\n\nx\n{% bad %}\n", r"p\.md, line 8: .*'bad'"),
        ("---\nroute: fast\n---\n\nx\n{{ y|bad }}\n", r"p\.md, line 6: No filter named 'bad'"),
        ("---\n---\nplaceholder: past\n", r"needs the variable 'past' with the type messages"),
        ('---\nroute: "\\ud800"\n---\nx', r"p\.md, route: has a character that cannot be stored"),
        ("---\nroute: !!python/name:os.system\n---\nx", r"p\.md, line 2: the front matter is not valid YAML"),
        ("---\na: &a [*a]\n---\nx", r"p\.md: is nested too deep, or contains itself"),
    ],
)
def test_mistakes_in_markdown(text: str, says: str) -> None:
    with pytest.raises(PromptInvalid, match=says):
        markdown(text)


def test_the_place_of_a_mistake_in_an_included_file_is_in_that_file(tmp_path: Path) -> None:
    folder(tmp_path, {"p.toml": user("x\n{% include 'a.md' %}"), "a.md": "---\nx: 1\n---\n\nfine\n{% bad %}\n"})
    with pytest.raises(PromptInvalid, match=r"a\.md, line 6: .*'bad'"):
        read_prompts([tmp_path])


def test_declared_and_unused_is_fine() -> None:
    made = toml(user("x", "[variables]\na = 'str'"))
    assert said(Prompt("p", 1, made.content), a="given all the same") == [("human", "x")]


def test_all_wrong_files_are_told_at_once(tmp_path: Path) -> None:
    folder(tmp_path, {"a.toml": "x = ", "b.toml": "", "c.toml": HELLO, "c.md": "---\n---\nx"})
    (tmp_path / "d.md").write_bytes(b"\xff")
    with pytest.raises(PromptInvalid) as caught:
        read_prompts([tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "c.toml", tmp_path / "c.md"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "a.toml" in lines[0]
    assert "b.toml" in lines[1]
    assert "c.toml has the name 'c' already" in lines[2]
    with pytest.raises(PromptInvalid, match=r"d\.md: cannot be read: UnicodeDecodeError"):
        read_prompts([tmp_path])


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(PromptNotFound, match="There is no file or folder"):
        read_prompts([tmp_path / "nope"])
    with pytest.raises(PromptNotFound, match="There is no prompt in"):
        read_prompts([tmp_path])
    folder(tmp_path, {"a.md": "no front matter", "a.txt": "x"})
    for name in ("a.md", "a.txt"):
        with pytest.raises(PromptInvalid, match=r"a prompt is a \.toml file, or a \.md file whose first line"):
            read_prompts([tmp_path / name])
