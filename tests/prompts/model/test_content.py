"""The content of a version, its canonical text and its digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.prompts.model.content import Content, Example, Message, Variable
from superstep.runtime.faults import PromptInvalid
from tests.prompts.samples import JSON, draft, shuffled
from tests.support.prompts import toml


def test_equal_contents_have_equal_digests_whatever_the_file_looks_like() -> None:
    one = toml("""
        route = "fast"
        description = "first"
        [parameters]
        temperature = 0
        top_p = 1
        [variables]
        a = "str"
        b = { type = "int", default = 1 }
        [[messages]]
        role = "user"
        content = '''
        {{ a }}{{ b }}
        '''
        [partials]
        unused = "x"
    """)
    other = toml("""
        description = "second"
        messages = [{content = "{{ a }}{{ b }}", role = "user"}]
        parameters = {top_p = 1, temperature = 0}
        variables = {b = {default = 1, type = "int"}, a = {type = "str"}}
        route = "fast"
        [[cases]]
        variables = {a = "x"}
        expect = {contains = "x"}
    """)
    assert one.content.digest == other.content.digest
    assert one.content.text == other.content.text


CONTENTS = st.builds(
    Content,
    messages=st.lists(st.builds(Message, st.just("user"), st.text())).map(tuple),
    variables=st.dictionaries(st.text(), st.builds(Variable, st.just("str"), st.booleans(), st.text())),
    includes=st.dictionaries(st.text(), st.text()),
    parameters=st.dictionaries(st.text(), JSON),
)


@given(CONTENTS, st.randoms())
def test_the_digest_depends_on_what_is_said_only(content: Content, random: Any) -> None:
    other = Content.load(shuffled(content.dump(), random), "p@1")
    assert other == content
    assert other.digest == content.digest


def test_whatever_a_model_can_notice_changes_the_digest() -> None:
    content = Content(messages=(Message("user", "x"),), variables={"a": Variable("str")})
    others = [
        replace(content, messages=(Message("system", "x"),)),
        replace(content, messages=(Message("user", "y"),)),
        replace(content, variables={"a": Variable("str", nullable=True)}),
        replace(content, variables={"a": Variable("str", default="")}),
        replace(content, includes={"t": "x"}),
        replace(content, examples=(Example("x", "y"),)),
        replace(content, route="fast"),
        replace(content, parameters={"temperature": 0}),
        replace(content, parameters={"temperature": False}),
    ]
    assert len({each.digest for each in [content, *others]}) == len(others) + 1


def test_a_stored_form_that_is_not_ours_is_named() -> None:
    for dumped in ({}, {"messages": [{"role": "user", "content": "x", "colour": "red"}]}, [], None):
        with pytest.raises(PromptInvalid, match=r"Prompt p@9 is stored in a form"):
            Content.load(dumped, "p@9")


def test_the_digest_is_that_of_the_canonical_text() -> None:
    import hashlib

    content = draft("Hello").content
    assert content.digest == hashlib.sha256(content.text.encode()).hexdigest()
    assert Content.load(content.dump(), "p@1") == content
