"""A graph that asks a model, in two steps."""

from typing import TypedDict

from langgraph.graph import START, StateGraph

from superstep import chat_model


class State(TypedDict, total=False):
    text: str


async def first(state: State) -> State:
    return {"text": (await chat_model("any").ainvoke("one")).text}


async def second(state: State) -> State:
    return {"text": (await chat_model("any").ainvoke("two")).text}


example_input: State = {}
graph = StateGraph(State)
graph.add_node("first", first)
graph.add_node("second", second)
graph.add_edge(START, "first")
graph.add_edge("first", "second")
