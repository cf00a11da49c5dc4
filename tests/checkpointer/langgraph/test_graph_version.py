"""What changes the version of a graph, and what does not; the same in every process."""

from __future__ import annotations

import operator
import subprocess
import sys
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from superstep.checkpointer import graph_version


class Line(BaseModel):
    n: int


class State(TypedDict, total=False):
    n: int
    seen: Annotated[list[Any], operator.add]
    line: Line


def first(state: Any) -> Any:
    return {}


def second(state: Any) -> Any:
    return {}


def third(state: Any) -> Any:
    return {}


def built(state: Any = State, last: str = "second", **more: Any) -> Any:
    builder = StateGraph(state).add_node("first", first).add_node(last, second).add_edge(START, "first")
    return builder.add_edge("first", last).add_edge(last, END)


def of(builder: Any) -> str:
    return graph_version(builder.compile(), None).name


def test_a_body_a_docstring_and_the_order_of_definitions_do_not_count() -> None:
    def other(state: Any) -> Any:
        """With a docstring, and another body."""
        return {"n": 1}

    builder = StateGraph(State).add_node("second", other).add_node("first", other).add_edge("second", END)
    assert of(builder.add_edge("first", "second").add_edge(START, "first")) == of(built())


def with_more(builder: Any) -> Any:
    return builder.add_node("third", third).add_edge("second", "third")


class Longer(State):
    more: str


class Typed(TypedDict, total=False):
    n: str
    seen: Annotated[list[Any], operator.add]
    line: Line


class Replacing(TypedDict, total=False):
    n: int
    seen: list[Any]
    line: Line


def other_field() -> Any:
    class Line(BaseModel):
        n: int
        m: int = 0

    class Other(TypedDict, total=False):
        n: int
        seen: Annotated[list[Any], operator.add]
        line: Line  # type: ignore[valid-type]

    Other.__annotations__["line"] = Line
    Line.__qualname__ = "Line"
    return Other


def in_a_subgraph(last: str) -> Any:
    return StateGraph(State).add_node("inner", built(last=last).compile()).add_edge(START, "inner")


@pytest.mark.parametrize(
    "other",
    [
        built(last="renamed"),
        with_more(built()),
        built().add_edge(START, "second"),
        built().add_conditional_edges("second", lambda _: "first", ["first", END]),
        built(Longer),
        built(Typed),
        built(Replacing),
        built(other_field()),
    ],
    ids=["renamed", "a node more", "an edge more", "a branch", "a channel more", "type", "reducer", "field of a class"],
)
def test_these_are_other_structures(other: Any) -> None:
    assert of(other) != of(built())


def test_so_is_another_subgraph() -> None:
    assert of(in_a_subgraph("second")) == of(in_a_subgraph("second"))
    assert of(in_a_subgraph("second")) != of(in_a_subgraph("renamed"))


def test_a_declared_name_stands_for_the_version() -> None:
    version = graph_version(built().compile(), "3")
    assert version.name == "3"
    assert graph_version(built().compile(), None).name == f"structure:{version.structure}"
    assert version.contradicts("2")
    assert not version.contradicts(f"structure:{version.structure}")


def test_it_is_the_same_in_every_process() -> None:
    program = "from tests.checkpointer.langgraph.test_graph_version import built, of; print(of(built()))"
    for seed in "12":
        env = {"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": ":".join(each for each in sys.path if each)}
        ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == of(built())
