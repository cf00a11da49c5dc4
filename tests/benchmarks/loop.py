"""How many super-steps a second: a loop of 50 steps with a small state, at 1, 8 and 32 concurrent flows."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from superstep import transactional
from tests.benchmarks.setting import MEMORY, OURS, UPSTREAM, savers, thread
from tests.benchmarks.tables import ratio, rotated, table

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.benchmarks.setting import Place

__all__ = ["build", "run"]

STEPS = 50
FLOW = "transactional(graph)"
_NAMES = (OURS, FLOW, UPSTREAM, MEMORY)
_CONNECTIONS = {1: 10, 8: 10, 32: 32}


class State(TypedDict):
    """A counter and a line of text."""

    n: int
    note: str


def build(saver: BaseCheckpointSaver[Any], steps: int = STEPS) -> CompiledStateGraph[Any]:
    """One node that goes round `steps` times."""

    async def work(state: State) -> State:
        return {"n": state["n"] + 1, "note": f"step {state['n']}"}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if state["n"] >= steps else "work")
    return builder.compile(checkpointer=saver)


async def turn(graph: Any, flows: int) -> tuple[float, float]:
    """Run so many flows at once, each on a new thread: super-steps a second, and milliseconds of our CPU a step."""
    gc.collect()
    started, used = time.perf_counter(), time.process_time()
    await asyncio.gather(
        *(graph.ainvoke({"n": 0, "note": ""}, thread(str(uuid.uuid4())), durability="sync") for _ in range(flows))
    )
    steps = flows * STEPS
    return steps / (time.perf_counter() - started), (time.process_time() - used) * 1000 / steps


async def run(place: Place) -> str:
    """The section."""
    speed_rows, cpu_rows = [], []
    for flows, connections in _CONNECTIONS.items():
        async with savers(place, connections) as contenders:
            graphs: dict[str, Any] = {name: build(saver) for name, saver in contenders.items()}
            graphs[FLOW] = transactional(build(contenders[OURS]))
            speeds, cpu = await _measure(graphs, flows, place.rounds * (3 if flows == 1 else 1))
        ratios = [
            ratio(speeds[OURS], speeds[UPSTREAM]),
            ratio(speeds[FLOW], speeds[UPSTREAM]),
            ratio(speeds[OURS], speeds[MEMORY]),
        ]
        speed_rows.append([flows, *(round(median(speeds[name])) for name in _NAMES), *ratios])
        cpu_rows.append([flows, *(median(cpu[name]) for name in _NAMES)])
    head = ["flows", *_NAMES, f"{OURS} / {UPSTREAM}", f"flow / {UPSTREAM}", f"{OURS} / {MEMORY}"]
    return (
        f'## Super-steps per second\n\nA loop of {STEPS} steps, `durability="sync"`, small state, no reads. '
        f"{MEMORY} is LangGraph's own cost: nothing can be faster. Higher is better.\n\n{table(head, speed_rows)}"
        "\nMilliseconds of CPU per super-step in the Python process, the server's not included. Lower is better.\n\n"
        f"{table(['flows', *_NAMES], cpu_rows)}"
    )


async def _measure(
    graphs: dict[str, Any], flows: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    for graph in graphs.values():
        await turn(graph, flows)  # statements prepared, pages touched
    speeds: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for at in range(rounds):
        for name in rotated(list(graphs), at):
            speed, used = await turn(graphs[name], flows)
            speeds[name].append(speed)
            cpu[name].append(used)
    return speeds, cpu
