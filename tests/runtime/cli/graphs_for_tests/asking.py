"""Graphs that wait for people: one question, or two at once."""

import operator
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    amount: int
    answers: Annotated[list[str], operator.add]


async def ask(state: State) -> State:
    return {"answers": [interrupt({"approve": state["amount"]})]}


async def left(state: State) -> State:
    return {"answers": [interrupt("left?")]}


async def right(state: State) -> State:
    return {"answers": [interrupt("right?")]}


graph = StateGraph(State)
graph.add_node("ask", ask)
graph.add_edge(START, "ask")

both = StateGraph(State)
both.add_node("left", left)
both.add_node("right", right)
both.add_edge(START, "left")
both.add_edge(START, "right")
