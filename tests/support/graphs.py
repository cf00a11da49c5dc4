"""Building small graphs in tests."""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from superstep.checkpointer import StepRecord, TransactionalSaver


LARGE = 2000  # bytes: far above what a checkpoint keeps inline
AGAIN = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=(ValueError, TimeoutError))


class State(TypedDict, total=False):
    """Something for every test: a number, a list that grows, and a bag."""

    n: int
    seen: Annotated[list[Any], operator.add]
    bag: dict[str, Any]


def chain(saver: Any, *nodes: Callable[..., Any], **options: Any) -> CompiledStateGraph[Any]:
    """Nodes one after the other; `saver` is whatever a graph can be compiled with."""
    builder = StateGraph(State)
    for node in nodes:
        builder.add_node(node.__name__, node, **options)
    names = [START, *(node.__name__ for node in nodes), END]
    for here, there in pairwise(names):
        builder.add_edge(here, there)
    return builder.compile(checkpointer=saver)


def fan(saver: Any, *nodes: Callable[..., Any], **options: Any) -> CompiledStateGraph[Any]:
    """Nodes side by side in one super-step."""
    builder = StateGraph(State)
    for node in nodes:
        builder.add_node(node.__name__, node, **options)
        builder.add_edge(START, node.__name__)
        builder.add_edge(node.__name__, END)
    return builder.compile(checkpointer=saver)


def config_of(thread_id: str, **more: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **more}}


async def steps_of(saver: TransactionalSaver, thread: RunnableConfig) -> list[StepRecord]:
    """The super-steps of a thread that were committed, oldest first."""
    return await saver.asteps(thread["configurable"]["thread_id"])
