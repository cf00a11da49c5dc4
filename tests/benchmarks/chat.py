"""What a long conversation costs: 300 turns on one thread, each an invocation of its own."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from superstep import transactional
from tests.benchmarks.section import Section
from tests.benchmarks.setting import MEMORY, OURS, UPSTREAM, savers, thread
from tests.benchmarks.tables import ratio, rotated, table

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.benchmarks.setting import Place

__all__ = ["run"]

FLOW = "transactional(graph)"
_QUESTION = "What is the status of dispute {n}, and has the customer been told about it? " * 2
_ANSWER = "Dispute {n} is in review; the customer was told on the day it was opened. " * 4


def build(saver: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any]:
    """One node that answers at once."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(_ANSWER.format(n=len(state["messages"])))]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


async def run(place: Place) -> Section:
    """The section."""
    turns = place.size(300, 30)
    edge = min(20, turns // 3)
    async with savers(place, 10) as contenders:
        graphs: dict[str, Any] = {name: build(saver) for name, saver in contenders.items()}
        graphs[FLOW] = transactional(build(contenders[OURS]))
        for graph in graphs.values():
            await graph.ainvoke({"messages": [HumanMessage("warm up")]}, thread("warm-up"), durability="sync")
        ms = await _converse(graphs, turns)
    names = (OURS, FLOW, UPSTREAM, MEMORY)
    rows = [
        [
            name,
            median(ms[name][:edge]),
            median(ms[name][-edge:]),
            ratio(ms[UPSTREAM][:edge], ms[name][:edge]),
            ratio(ms[UPSTREAM][-edge:], ms[name][-edge:]),
        ]
        for name in names
    ]
    head = ["saver", f"ms, first {edge}", f"ms, last {edge}", f"{UPSTREAM} / it, first", "last"]
    return Section(
        f"## A long conversation\n\n{turns} turns on one thread, `add_messages`, milliseconds per turn (median). The "
        f"savers take turns, turn by turn. Lower is better; the ratios say how many times faster than {UPSTREAM}.\n\n"
        + table(head, rows)
    )


async def _converse(graphs: dict[str, Any], turns: int) -> dict[str, list[float]]:
    ms: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        for name in rotated(list(graphs), turn):
            question = HumanMessage(_QUESTION.format(n=turn))
            started = time.perf_counter()
            await graphs[name].ainvoke({"messages": [question]}, thread(f"chat {name}"), durability="sync")
            ms[name].append((time.perf_counter() - started) * 1000)
    return ms
