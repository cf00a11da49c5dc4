"""The offline model: deterministic, labelled, and shaped like any chat model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field

from superstep.providers import OfflineChatModel, OfflineReply, OfflineRequest, ToolCall
from superstep.providers.offline.request import parse_request


class Verdict(BaseModel):
    """A verdict."""

    outcome: Literal["approve", "decline"]
    amount: int = Field(ge=5)
    note: str | None = None


class Answer(TypedDict):
    """An answer."""

    text: Annotated[str, ..., "the text"]


@tool
def lookup(key: str) -> str:
    """Look a key up."""
    return key


@tool
def delete(key: str) -> str:
    """Delete a key."""
    return key


def echo(request: OfflineRequest) -> str:
    return f"heard: {request.text}"


def approve(request: OfflineRequest) -> BaseModel:
    return Verdict(outcome="approve", amount=7)


def call_twice(request: OfflineRequest) -> OfflineReply:
    return OfflineReply("looking", [ToolCall("lookup", {"key": "a"}), ToolCall("lookup", {"key": "b"})])


def nothing(request: OfflineRequest) -> None:
    return None


def test_text_that_no_rule_supplied_is_labelled() -> None:
    message = OfflineChatModel(rules=nothing).invoke("What is due?")
    assert message.text == "[offline] What is due?"
    assert message.response_metadata["model_name"] == "offline"
    assert message.response_metadata["model_provider"] == "offline"
    assert OfflineChatModel()._llm_type == "offline"


async def test_an_answer_that_takes_a_while() -> None:
    def slowly(request: OfflineRequest) -> OfflineReply:
        return OfflineReply(request.text, seconds=0.02)

    model = OfflineChatModel(rules=slowly)
    took = []
    for way in ("invoke", "ainvoke", "stream", "astream"):
        began = time.monotonic()
        if way == "invoke":
            said = model.invoke("so").text
        elif way == "ainvoke":
            said = (await model.ainvoke("so")).text
        elif way == "stream":
            said = "".join(chunk.text for chunk in model.stream("so"))
        else:
            said = "".join([chunk.text async for chunk in model.astream("so")])
        took.append(time.monotonic() - began)
        assert said == "so"
    assert min(took) >= 0.02


def test_usage_is_an_estimate_that_adds_up() -> None:
    usage = OfflineChatModel(rules=echo).invoke([SystemMessage("x" * 8), HumanMessage("y" * 5)]).usage_metadata
    assert usage == {"input_tokens": 4, "output_tokens": 3, "total_tokens": 7}


def test_structured_output_from_a_rule_and_without_one() -> None:
    ruled = OfflineChatModel(rules=approve).with_structured_output(Verdict).invoke("?")
    assert ruled == Verdict(outcome="approve", amount=7)
    smallest = OfflineChatModel().with_structured_output(Verdict).invoke("?")
    assert smallest == Verdict(outcome="approve", amount=5)
    assert OfflineChatModel().with_structured_output(Answer).invoke("?") == {"text": "offline"}
    schema = {"title": "Pick", "type": "object", "properties": {"n": {"const": 3}}, "required": ["n"]}
    assert OfflineChatModel().with_structured_output(schema).invoke("?") == {"n": 3}


def test_structured_output_can_come_with_the_raw_message() -> None:
    both: Any = OfflineChatModel().with_structured_output(Verdict, include_raw=True, method="json_schema").invoke("?")
    assert both["parsed"].outcome == "approve"
    assert both["raw"].tool_calls[0]["name"] == "Verdict"
    assert both["parsing_error"] is None


def test_a_rule_may_answer_with_a_dict_without_a_schema() -> None:
    assert OfflineChatModel(rules=lambda _: {"a": 1}).invoke("?").text == '{"a": 1}'


def test_tools_are_called_when_a_rule_or_the_choice_says_so() -> None:
    tools = [lookup, delete]
    assert OfflineChatModel().bind_tools(tools).invoke("?").tool_calls == []
    assert OfflineChatModel().bind_tools(tools, tool_choice="any").invoke("?").tool_calls[0]["name"] == "lookup"
    named = OfflineChatModel().bind_tools(tools, tool_choice="delete").invoke("?")
    assert named.tool_calls[0]["name"] == "delete"
    assert named.tool_calls[0]["args"] == {"key": "offline"}
    ruled = OfflineChatModel(rules=call_twice).bind_tools(tools).invoke("?")
    assert [call["args"]["key"] for call in ruled.tool_calls] == ["a", "b"]
    assert len({call["id"] for call in ruled.tool_calls}) == 2
    assert ruled.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, None),
        ("auto", None),
        ("none", None),
        ("required", "any"),
        (True, "any"),
        ("lookup", "lookup"),
        ({"type": "function", "function": {"name": "lookup"}}, "lookup"),
        ({"type": "tool", "name": "lookup"}, "lookup"),
        ({"type": "any"}, "any"),
    ],
)
def test_every_spelling_of_a_tool_choice(choice: Any, read: str | None) -> None:
    function = {"name": "lookup", "parameters": {"type": "object"}}
    request = parse_request("r", [], tools=[{"type": "function", "function": function}], tool_choice=choice)
    assert request.tool_choice == read
    assert request.schema_name == (None if read is None else "lookup")


def test_stop_sequences_end_the_text() -> None:
    assert OfflineChatModel(rules=lambda _: "one END two").invoke("?", stop=["END"]).text == "one "


async def test_the_same_answer_whole_and_streamed_sync_and_async() -> None:
    model = OfflineChatModel(rules=call_twice).bind_tools([lookup])
    whole = model.invoke("go")
    streamed = sum(list(model.stream("go"))[1:], next(iter(model.stream("go"))))
    parts = [part async for part in model.astream("go")]
    assert isinstance(streamed, AIMessageChunk)
    for other in (streamed, sum(parts[1:], parts[0]), await model.ainvoke("go")):
        assert other.text == whole.text
        assert other.tool_calls == whole.tool_calls
        assert other.usage_metadata == whole.usage_metadata
        assert other.response_metadata == whole.response_metadata


@given(st.text())
def test_streamed_words_add_up_to_the_text(text: str) -> None:
    model = OfflineChatModel(rules=lambda _: text)
    assert "".join(part.text for part in model.stream("?")) == text


async def test_tokens_reach_a_graph_that_streams_messages() -> None:
    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await OfflineChatModel(rules=echo).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    asked: Any = {"messages": ["one two three"]}
    parts: list[Any] = [part async for part, _ in graph.astream(asked, stream_mode="messages")]
    assert [part.text for part in parts if part.text] == ["heard:", " one", " two", " three"]


class RecordingCache(InMemoryCache):
    """Remembers the keys it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[tuple[str, str]] = []

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.keys.append((prompt, llm_string))
        return super().lookup(prompt, llm_string)


def key_of(ask: Any, **fields: Any) -> tuple[str, str]:
    cache = RecordingCache()
    ask(OfflineChatModel(cache=cache, **fields))
    return cache.keys[0]


def test_requests_that_differ_have_different_cache_keys_and_equal_ones_equal_keys() -> None:
    asked: list[Any] = [
        lambda m: m.invoke("a"),
        lambda m: m.invoke("b"),
        lambda m: m.invoke("a", stop=["x"]),
        lambda m: m.bind_tools([lookup]).invoke("a"),
        lambda m: m.bind_tools([delete]).invoke("a"),
        lambda m: m.bind_tools([lookup], tool_choice="any").invoke("a"),
        lambda m: m.with_structured_output(Verdict).invoke("a"),
    ]
    keys = [key_of(ask) for ask in asked]
    keys += [key_of(asked[0], route="fast"), key_of(asked[0], rules=echo), key_of(asked[0], rules=approve)]
    assert len(set(keys)) == len(keys)
    assert keys[: len(asked)] == [key_of(ask) for ask in asked]


def test_a_cached_answer_is_the_answer() -> None:
    cache = RecordingCache()
    model = OfflineChatModel(cache=cache, rules=approve).with_structured_output(Verdict)
    assert model.invoke("a") == model.invoke("a")
    assert len(cache.keys) == 2


def test_keys_and_answers_are_the_same_in_every_process() -> None:
    program = (
        "from superstep.providers import OfflineChatModel\n"
        "from pydantic import BaseModel\n"
        "class A(BaseModel):\n    x: int\n    y: str\n"
        "m = OfflineChatModel(route='r').bind_tools([A], tool_choice='any')\n"
        "r = m.invoke('hello')\n"
        "print(m.bound._get_llm_string(**m.kwargs), r.content, r.tool_calls, r.usage_metadata)\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert "hello" not in said.pop().split("[offline]")[0]
