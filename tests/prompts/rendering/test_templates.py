"""Templates: what they reach, and what is never parsed as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from superstep.prompts import Prompt
from superstep.prompts.model.content import Content, Message, Variable
from superstep.runtime.faults import PromptInvalid
from tests.prompts.samples import Row
from tests.support.prompts import one_message, prompt_of, said

HOSTILE = "{{ 7*7 }} {% include 'tone' %} {% for x in y %} {# gone #} ${who} {who} %s"


EVERYWHERE = """
[variables]
note = "str"
past = "messages"
things = "list[object]"
[partials]
tone = "Note: {{ note }}"
[[messages]]
role = "system"
content = '{% include "tone" %}'
[[messages]]
role = "placeholder"
name = "past"
[[messages]]
role = "user"
content = "{% for thing in things %}{{ thing.text }};{% endfor %}{{ note }}"
[[examples]]
input = "in {{ note }}"
output = "out {{ note }}"
"""


def test_content_of_variables_is_never_parsed_as_template() -> None:
    past = [HumanMessage(HOSTILE), {"role": "assistant", "content": HOSTILE}, ("user", HOSTILE)]
    found = said(prompt_of(EVERYWHERE), note=HOSTILE, past=past, things=[{"text": HOSTILE}, Row(text=HOSTILE)])
    assert found == [
        ("system", f"Note: {HOSTILE}"),
        ("human", HOSTILE),
        ("ai", HOSTILE),
        ("human", HOSTILE),
        ("human", f"in {HOSTILE}"),
        ("ai", f"out {HOSTILE}"),
        ("human", f"{HOSTILE};{HOSTILE};{HOSTILE}"),
    ]


@given(st.text())
def test_text_comes_out_as_it_went_in(text: str) -> None:
    assert said(one_message("<{{ a }}|{{ b.k }}>", a="str", b="object"), a=text, b={"k": text}) == [
        ("human", f"<{text}|{text}>")
    ]


@pytest.mark.parametrize(
    "template",
    [
        "{{ v['__class__'] }}",
        "{{ v|attr('__class__') }}",
        "{{ v.items.__class__ }}",
        "{{ ''.join.__globals__ }}",
        "{{ v.update({'a': 1}) }}",
        "{{ [].append(1) }}",
        "{{ '{0.__class__}'.format(v) }}",
        "{{ range(10000000)|list|length }}",
        "{{ v.nope }}",
        "{{ v.items }}",
        "{{ 1 // 0 }}",
        "{{ v|map('upper') }}",
    ],
)
def test_a_template_reaches_nothing_but_its_data(template: str) -> None:
    content = Content(messages=(Message("user", template),), variables={"v": Variable("object")})
    value = {"a": "hunter2"}
    with pytest.raises(PromptInvalid, match=r"^Prompt p@3, .*user") as caught:
        Prompt("p", 3, content).invoke({"v": value})
    assert "hunter2" not in str(caught.value)
    assert value == {"a": "hunter2"}


def test_unsafe_attributes_are_refused_when_a_file_is_read() -> None:
    with pytest.raises(PromptInvalid, match=r"p\.toml, messages\[1\], line 2: the attribute '__class__'"):
        one_message("x\n{{ v.__class__ }}", v="object")
