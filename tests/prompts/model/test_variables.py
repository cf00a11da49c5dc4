"""Types of variables, and what is said of values that do not fit."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from superstep.prompts import Prompt
from superstep.prompts.model.content import Content, Message, Variable
from superstep.runtime.faults import PromptInvalid
from tests.prompts.samples import Row
from tests.support.prompts import one_message


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
