"""The offline rules: what a message asks for, and what is answered when it asks for nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from superstep import OfflineRequest
from superstep.graphs.support import rules
from superstep.graphs.support.tools import TOOLS

OFFERED: tuple[Any, ...] = tuple(convert_to_openai_tool(each)["function"] for each in TOOLS)


def asked(*messages: Any, remembered: tuple[str, ...] = ()) -> Any:
    known = {"articles": [{"id": "a", "content": "Rinse twice."}], "remembered": list(remembered)}
    instructions = SystemMessage(f"You answer. {json.dumps(known)}")
    return rules.answer(OfflineRequest("strong", (instructions, *messages), tools=OFFERED))


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ("Refund O-1 and O-22!", ["refund_order", "refund_order"]),
        ("I want a refund.", []),
        ("Where is my order?", ["look_up_orders"]),
        ("My address is now: Oak 5. I prefer tea.", ["change_address", "remember"]),
        ("Refund O-1. I prefer tea.", ["refund_order", "remember"]),
        ("Hello", []),
    ],
)
def test_tools_are_called_by_what_a_message_asks_for(message: str, calls: list[str]) -> None:
    assert [each.name for each in asked(HumanMessage(message)).tool_calls] == calls


def test_the_answers_of_tools_are_told_in_their_order() -> None:
    told = [ToolMessage("one", tool_call_id="1"), ToolMessage("two", tool_call_id="2")]
    assert asked(HumanMessage("Refund O-1"), AIMessage(""), *told).text == "[offline] one two"


def test_an_article_and_what_is_remembered() -> None:
    assert asked(HumanMessage("Hello")).text == "[offline] Rinse twice."
    assert asked(HumanMessage("Hello"), remembered=("a", "b")).text == "[offline] Rinse twice. I remember: a; b."


def test_whose_account_it_is_is_nothing_that_a_model_can_say() -> None:
    assert {name for each in OFFERED for name in each["parameters"]["properties"]} == {
        "address",
        "preference",
        "order_id",
        "reason",
    }


def test_other_questions_are_left_to_the_default() -> None:
    assert rules.answer(OfflineRequest("strong", (HumanMessage("Refund O-1"),))) is None
