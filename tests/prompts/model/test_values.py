"""Values as templates show them: equal facts, equal text."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from superstep.runtime.faults import PromptInvalid
from tests.prompts.samples import JSON, Row, shuffled
from tests.support.prompts import one_message, said


class Colour(enum.Enum):
    RED = "red"


@given(st.dictionaries(st.text(), JSON), st.randoms())
def test_equal_facts_give_equal_text_whatever_the_order_of_keys(value: dict[str, Any], random: Any) -> None:
    prompt = one_message("{{ a }} {{ a|json }} {{ a|string }} {% for k in a %}{{ k }},{% endfor %}", a="object")
    assert said(prompt, a=value) == said(prompt, a=shuffled(value, random))


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
