"""What a version makes of variables: validated first, printed always the same, never parsed."""

from __future__ import annotations

import datetime
import decimal
import enum
import threading
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue
from markupsafe import Markup
from pydantic import BaseModel

from superstep.prompts import Prompt
from superstep.prompts.model.content import Content, Example, Message, Variable
from superstep.providers.offline import OfflineChatModel
from superstep.runtime.faults import PromptInvalid
from tests.support.prompts import HELLO, one_message, prompt_of, said, toml

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


class Row:
    """Like a row of the database driver: keys and items, but iterating gives values, and it is no Mapping."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def keys(self) -> Any:
        return iter(self._columns)

    def __iter__(self) -> Any:
        return iter(self._columns.values())

    def __getitem__(self, key: str) -> Any:
        return self._columns[key]


class Colour(enum.Enum):
    RED = "red"


def test_messages_come_in_order_and_know_their_version() -> None:
    value = prompt_of(HELLO).invoke({"who": "Ada"})
    assert isinstance(value, ChatPromptValue)
    assert value.prompt == "p@3"
    assert value.messages == [HumanMessage("Hello Ada")]


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON), st.randoms())
def test_equal_facts_give_equal_text_whatever_the_order_of_keys(value: dict[str, Any], random: Any) -> None:
    prompt = one_message("{{ a }} {{ a|json }} {{ a|string }} {% for k in a %}{{ k }},{% endfor %}", a="object")
    assert said(prompt, a=value) == said(prompt, a=_shuffled(value, random))


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: _shuffled(value[key], random) for key in keys}
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


def test_rows_and_types_of_the_database_are_shown() -> None:
    row = Row(
        b=decimal.Decimal("1.50"),
        a=datetime.date(2024, 2, 29),
        c=uuid.UUID(int=1),
        d=[Colour.RED, None, True],
        e=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
    )
    [(_, text)] = said(one_message("{{ r }} {{ r.b }} {{ r.a }} {{ r.d[1] }}", r="object"), r=row)
    assert text == (
        '{"a": "2024-02-29", "b": "1.50", "c": "00000000-0000-0000-0000-000000000001", "d": ["red", null, true], '
        '"e": "2024-02-29T12:00:00+00:00"} 1.50 2024-02-29 null'
    )


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


def test_text_with_a_mind_of_its_own_is_text() -> None:
    prompt = one_message("{{ '<' ~ a ~ b.k ~ c[0] }}", a="str", b="object", c="list[str]")
    assert said(prompt, a=Markup("<b>"), b={"k": Markup("<c>")}, c=[Shouting("d")]) == [("human", "<<b><c>d")]


def test_all_problems_are_told_at_once_and_no_value_is_shown() -> None:
    prompt = one_message("{{ a }}{{ b }}{{ c }}{{ account }}", a="str", b="int", c="list[int]", account="object?")
    with pytest.raises(PromptInvalid) as caught:
        prompt.invoke({"b": "hunter2", "c": [1, "hunter2"], "acount": "hunter2"})
    assert str(caught.value) == (
        "Prompt p@3 cannot be rendered: a is missing (str); b must be int, not str; c is not list[int]: item 1 must be "
        "int, not str; account is missing (object?); acount is not a variable of it (did you mean 'account'?)."
    )
    with pytest.raises(PromptInvalid, match="takes a mapping"):
        prompt.invoke("hunter2")  # type: ignore[arg-type]


class Model(BaseModel):
    secret: str = "hunter2"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("str", ["", "x"], [1, None, b"x"]),
        ("int", [0, -(10**30)], [True, 1.0, "1", None]),
        ("float", [1, 1.5, decimal.Decimal(1)], [True, "1", None]),
        ("bool", [True], [1, "true", None]),
        ("date", [datetime.date(2024, 1, 1), "2024-01-01"], [datetime.datetime(2024, 1, 1), "soon", 1]),  # noqa: DTZ001
        ("datetime", [datetime.datetime(2024, 1, 1), "2024-01-01T00:00:00"], [datetime.date(2024, 1, 1), "x"]),  # noqa: DTZ001
        ("object", [{}, Row(a=1)], [[], "x", Model(), None, {"a": object()}, {"a": {1}}]),
        ("list", [[], (1, "x")], ["x", {}, {1}, None]),
        ("list[str]", [["a"]], [["a", 1], "ab"]),
        ("list[int]", [[1]], [[True], [1.0]]),
        ("list[object]", [[{}, Row(a=1)]], [[1], {}]),
        ("messages", [[HumanMessage("x")], [("user", "x")], []], ["x", [1], HumanMessage("x"), [{"role": "x"}]]),
        ("any", [1, None, {"a": [1]}], [object(), Model()]),
        ("str?", ["x", None], [1]),
    ],
)
def test_types(kind: str, good: list[Any], bad: list[Any]) -> None:
    variable = Variable(kind.removesuffix("?"), kind.endswith("?"))
    message = Message("placeholder", name="v") if kind == "messages" else Message("user", "{{ v }}")
    prompt = Prompt("p", 1, Content(messages=(message,), variables={"v": variable}))
    for value in good:
        prompt.invoke({"v": value})
    for value in bad:
        with pytest.raises(PromptInvalid, match="p@1 cannot be rendered: v ") as caught:
            prompt.invoke({"v": value})
        assert "hunter2" not in str(caught.value)


def test_what_cannot_be_shown_the_same_twice_is_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for value, says in [
        ({"a": [object()]}, r"a object at \.a\[0\]"),
        ({"a": deep}, "nested"),
        ({1: 0, "1": 0}, "alike"),
    ]:
        with pytest.raises(PromptInvalid, match=says):
            one_message("{{ v }}", v="object").invoke({"v": value})
    for text in ("{{ v|random }}", "{{ lipsum() }}"):
        with pytest.raises(PromptInvalid):
            one_message(text, v="list").invoke({"v": [1]})


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


def test_defaults_apply_and_are_not_templates() -> None:
    prompt = prompt_of("""
        [variables]
        a = {type = "str", default = "{{ b }}"}
        day = {type = "date", default = 2024-01-31}
        b = "str"
        past = {type = "messages?", default = []}
        [[messages]]
        role = "placeholder"
        name = "past"
        [[messages]]
        role = "user"
        content = "{{ a }} {{ b }} {{ day.year }}"
    """)
    assert said(prompt, b="x") == [("human", "{{ b }} x 2024")]
    assert said(prompt, b="x", a="y", past=None) == [("human", "y x 2024")]
    assert prompt.input_variables == ["b"]


def test_it_is_a_runnable() -> None:
    prompt = prompt_of('route = "fast"\n[parameters]\ntemperature = 0.5\n' + HELLO)
    assert (prompt.route, dict(prompt.parameters), prompt.name, prompt.version) == (
        "fast",
        {"temperature": 0.5},
        "p",
        3,
    )
    with pytest.raises(TypeError):
        prompt.parameters["temperature"] = 1  # type: ignore[index]
    answer = (prompt | OfflineChatModel(route="fast")).invoke({"who": "Ada"})
    assert isinstance(answer, AIMessage)
    assert answer.text == "[offline] Hello Ada"
    assert prompt.get_name() == "p@3"


async def test_it_renders_without_a_thread() -> None:
    prompt = prompt_of(HELLO)
    here = threading.active_count()
    assert (await prompt.ainvoke({"who": "Ada"})).messages == [HumanMessage("Hello Ada")]
    assert threading.active_count() == here


def test_the_callers_messages_are_passed_on_untouched() -> None:
    prompt = prompt_of("""
        [variables]
        past = "messages"
        [[messages]]
        role = "placeholder"
        name = "past"
    """)
    past = [HumanMessage("a", id="1"), AIMessage("b", id="2")]
    assert prompt.invoke({"past": past}).messages == past


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
    shuffled = Content.load(_shuffled(content.dump(), random), "p@1")
    assert shuffled == content
    assert shuffled.digest == content.digest


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
