"""Graphs that are made from, and read, what a run is given beside its input."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from langgraph_sdk.runtime import ServerRuntime

events: list[str] = []


@dataclass
class Context:
    user: str
    limit: int = 3


class State(TypedDict, total=False):
    ask: bool
    seen: dict[str, Any]


async def look(state: State, runtime: Runtime[Context], config: RunnableConfig) -> State:
    if state.get("ask"):
        interrupt("go on?")
    context = runtime.context
    configurable = {key: value for key, value in config["configurable"].items() if key in ("tone", "thread_id")}
    return {
        "seen": {
            "context": context and [context.user, context.limit],
            "configurable": configurable,
            "tags": [tag for tag in config.get("tags") or [] if tag == "blue"],
            "run": (config.get("metadata") or {}).get("run"),
        }
    }


async def loop(state: State) -> State:
    return {}


example_input: State = {}
graph = StateGraph(State, context_schema=Context)
graph.add_node("look", look)
graph.add_edge(START, "look")

endless = StateGraph(State)
endless.add_node("loop", loop)
endless.add_edge(START, "loop")
endless.add_edge("loop", "loop")


@asynccontextmanager
async def opened(config: RunnableConfig, runtime: ServerRuntime[Context]) -> Any:
    ran = runtime.execution_runtime
    events.append(f"open {config['configurable'].get('thread_id')} {ran and ran.context and ran.context.user}")
    yield graph
    events.append("close")
