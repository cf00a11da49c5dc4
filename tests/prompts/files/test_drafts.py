"""What is said of files whose tables are no prompt."""

from __future__ import annotations

import pytest

from superstep.prompts import Prompt
from superstep.runtime.faults import PromptInvalid
from tests.prompts.samples import user
from tests.support.prompts import markdown, said, toml


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
        ("---\n---\nx\nuser:\ny", r"p\.md, line 3: this text has no speaker"),
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


def test_declared_and_unused_is_fine() -> None:
    made = toml(user("x", "[variables]\na = 'str'"))
    assert said(Prompt("p", 1, made.content), a="given all the same") == [("human", "x")]
