"""Two steps that count; types to hold an input against; an example input."""

import operator
from datetime import date
from enum import Enum
from typing import Annotated, NotRequired, TypedDict

from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    item: str
    amount: float


class Place(TypedDict):
    city: str


class State(TypedDict, total=False):
    number: int
    seen: Annotated[list[str], operator.add]
    order: Order
    colour: Colour
    day: date
    place: Place


class Picky(TypedDict):
    account: str
    places: NotRequired["list[Place] | None"]


class Strict(BaseModel):
    number: int
    name: str = "nobody"


example_input = {"number": 40}


async def first(state: State) -> State:
    return {"number": state["number"] + 1, "seen": ["first"]}


def second(state: State) -> State:
    return {"number": state["number"] + 1, "seen": ["second"]}


builder = StateGraph(State)
builder.add_node("first", first)
builder.add_node("second", second)
builder.add_edge(START, "first")
builder.add_edge("first", "second")
builder.add_edge("second", END)

compiled = builder.compile()

strict = StateGraph(Strict)
strict.add_node("double", lambda state: {"number": state.number * 2})
strict.add_edge(START, "double")

chat = StateGraph(MessagesState)
chat.add_node("answer", lambda state: {"messages": [("ai", "hello")]})
chat.add_edge(START, "answer")

picky = StateGraph(Picky)
picky.add_node("keep", lambda state: {})
picky.add_edge(START, "keep")

unfinished = StateGraph(State)
unfinished.add_node("alone", first)
