"""A graph whose every text tries to drive the terminal, as if a model had written it."""

from typing import TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"
TEXTS = [
    CLIPBOARD,
    "\x9b31m",
    "\x90payload\x9c",
    "\x1b[2J",
    "\u202egnp.exe",
    "\b\b\b",
    "\x0e",
    "[link=http://evil]x[/link]",
]
TEXT = "".join(TEXTS)
NODE = f"[bold]node{CLIPBOARD}\x9b"


class State(TypedDict, total=False):
    mode: str
    out: str


async def answers(state: State) -> State:
    if state["mode"] == "ask":
        interrupt({TEXT: TEXT})
    if state["mode"] == "fail":
        error = ValueError(f"not a number: {TEXT}")
        error.add_note(TEXT)
        raise error
    return {"out": AIMessage(TEXT).text}


graph = StateGraph(State)
graph.add_node(NODE, answers)
graph.add_edge(START, NODE)
