"""Which classes a graph's schemas name, however they name them."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AnyMessage
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent
from pydantic import BaseModel, SecretStr
from pydantic.v1 import BaseModel as OldModel
from typing_extensions import TypeAliasType

from superstep.checkpointer.langgraph.state_types import classes_in, state_types

T = TypeVar("T")
MODEL = FakeListChatModel(responses=["x"])


class Leaf(BaseModel):
    n: int = 0


class Other(BaseModel):
    n: int = 0


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    leaf: Leaf


class Old(OldModel):
    n: int = 0


class Box(BaseModel, Generic[T]):
    it: T


class Fields(TypedDict, Generic[T]):
    it: NotRequired[T]


@dataclasses.dataclass
class Tree:
    leaf: Leaf
    under: list[Tree]


class Holder(BaseModel):
    leaf: Leaf | None = None


class In(TypedDict):
    a: Leaf


class Out(TypedDict):
    b: Color


class State(In, Out):
    pass


class Context(BaseModel):
    n: int = 0


class Sent(BaseModel):
    pair: Pair


Named = NewType("Named", Leaf)
Alias = TypeAliasType("Alias", dict[str, Leaf])
Bound = TypeVar("Bound", bound=Leaf)
ANNOTATIONS: dict[str, tuple[Any, set[type]]] = {
    "model": (Leaf, {Leaf}),
    "list": (list[Leaf], {Leaf}),
    "dict": (dict[str, list[Leaf]], {Leaf}),
    "abstract": (collections.abc.Mapping[str, collections.abc.Sequence[Leaf]], {Leaf}),
    "optional": (Optional[Leaf], {Leaf}),  # noqa: UP045 - this form too
    "union": (Union[Leaf, Other, None], {Leaf, Other}),  # noqa: UP007
    "bar": (Leaf | Other, {Leaf, Other}),
    "reducer": (Annotated[list[Leaf], lambda a, b: a + b], {Leaf}),
    "tuple": (tuple[Leaf, ...], {Leaf}),
    "literal": (Literal[Color.RED], {Color}),
    "enum key": (dict[Color, int], {Color}),
    "named tuple": (Pair, {Pair, Leaf}),
    "old model": (list[Old], {Old}),
    "generic": (Box[Leaf], {Box[Leaf], Leaf}),
    "generic fields": (Fields[Leaf], {Leaf}),
    "recursive": (Tree, {Tree, Leaf}),
    "text annotation": (Holder, {Holder, Leaf}),
    "new type": (Named, {Leaf}),
    "alias": (Alias, {Leaf}),
    "type variable": (list[Bound], {Leaf}),
    "secret": (SecretStr, {SecretStr}),
    "function": (collections.abc.Callable[[Leaf], Color], {Leaf, Color}),
    "messages": (list[AnyMessage], set()),
    "nothing": (dict[str, Any], set()),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_classes_are_found_wherever_an_annotation_names_them(name: str) -> None:
    annotation, classes = ANNOTATIONS[name]
    assert classes_in([annotation]) == classes


def test_classes_of_a_function_are_found() -> None:
    @dataclasses.dataclass
    class Inner:
        leaf: Leaf
        missing: Nowhere  # type: ignore[name-defined]  # noqa: F821

    assert classes_in([list[Inner]]) == {Inner, Leaf}


def test_a_graph_names_its_state_input_output_context_and_the_inputs_of_its_nodes() -> None:
    def node(state: State) -> Any:
        return {}

    def target(state: Sent) -> Any:
        return {}

    builder = StateGraph(State, context_schema=Context, input_schema=In, output_schema=Out)
    builder.add_node(node).add_node(target).add_edge(START, "node")
    assert state_types(builder.compile()) == {Leaf, Color, Context, Sent, Pair}


def test_a_function_names_what_it_takes_saves_and_returns_and_its_tasks_return() -> None:
    @task
    async def deep() -> Old:
        return Old()

    @task
    async def shallow() -> list[Color]:
        await deep()
        return []

    @entrypoint()
    async def flow(given: Leaf, *, previous: Pair | None = None) -> entrypoint.final[Other, Tree]:
        await shallow()
        return entrypoint.final(value=Other(), save=Tree(given, []))

    assert {Leaf, Other, Tree, Color, Old} <= state_types(flow)


def test_a_graph_names_the_classes_of_its_subgraphs_too() -> None:
    """Also of those that nodes and tools call: what they ask a human is stored with the graph."""
    by_node = StateGraph(In).add_node("n", lambda state: {}).add_edge(START, "n").compile()
    by_tool = StateGraph(Out).add_node("n", lambda state: {}).add_edge(START, "n").compile()

    def call(state: Any) -> Any:
        return by_node.invoke(state)

    def tool(text: str) -> str:
        """Ask the other graph."""
        return str(by_tool.invoke({}))

    builder = StateGraph(MessagesState).add_node(call).add_node("tools", ToolNode([tool])).add_edge(START, "call")
    assert state_types(builder.compile()) == {Leaf, Color}


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
@pytest.mark.parametrize("wanted", [Leaf, ("Answer shortly.", Leaf)])
def test_an_agent_names_what_it_was_told_to_answer_with(wanted: Any) -> None:
    assert Leaf in state_types(create_react_agent(MODEL, [], response_format=wanted))
    assert Leaf not in state_types(create_react_agent(MODEL, []))
