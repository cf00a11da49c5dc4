"""What a version makes of variables: validated first, printed always the same, never parsed."""

from __future__ import annotations

import threading

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue

from superstep.providers.offline import OfflineChatModel
from tests.support.prompts import HELLO, prompt_of, said


def test_messages_come_in_order_and_know_their_version() -> None:
    value = prompt_of(HELLO).invoke({"who": "Ada"})
    assert isinstance(value, ChatPromptValue)
    assert value.prompt == "p@3"
    assert value.messages == [HumanMessage("Hello Ada")]


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
