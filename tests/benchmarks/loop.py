"""How many super-steps a second: a loop of 50 steps with a small state, at 1, 8, 32 and 128 concurrent flows."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections import defaultdict
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from superstep import current_step, transactional
from tests.benchmarks.section import Curves, Goal, Section
from tests.benchmarks.setting import MEMORY, OURS, UPSTREAM, savers, thread
from tests.benchmarks.tables import number, ratio, rotated, table

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.benchmarks.setting import Place

__all__ = ["build", "run"]

STEPS = 50
FLOW = "transactional(graph)"
_NAMES = (OURS, FLOW, UPSTREAM, MEMORY)
_CONNECTIONS = {1: 10, 8: 10, 32: 32, 128: 32}
_GOALS = {1: 1.3, 8: 2.5, 32: 3.5, 128: 3.5}  # times UPSTREAM
_BESIDE_MEMORY = {32: 0.8}


class State(TypedDict):
    """A counter and a line of text."""

    n: int
    note: str


def build(
    saver: BaseCheckpointSaver[Any], steps: int = STEPS, *, reads_and_writes: bool = False
) -> CompiledStateGraph[Any]:
    """One node that goes round `steps` times; it may take 1 from an account, which is another one each time."""
    accounts = count(1)

    async def work(state: State) -> State:
        if reads_and_writes:
            step, account = current_step(), next(accounts) % 10000 + 1
            balance = await step.fetchval("SELECT balance FROM account WHERE id = $1", account)
            step.stage("UPDATE account SET balance = $2 WHERE id = $1", account, balance - 1)
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


async def run(place: Place) -> Section:
    """The section."""
    speed_rows, cpu_rows, goals = [], [], []
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for flows, connections in _CONNECTIONS.items():
        async with savers(place, connections) as contenders:
            graphs: dict[str, Any] = {name: build(saver) for name, saver in contenders.items()}
            graphs[FLOW] = transactional(build(contenders[OURS]))
            speeds, cpu = await _measure(graphs, flows, _rounds(place, flows))
        ratios = [
            ratio(speeds[OURS], speeds[UPSTREAM]),
            ratio(speeds[FLOW], speeds[UPSTREAM]),
            ratio(speeds[OURS], speeds[MEMORY]),
        ]
        speed_rows.append([flows, *(round(median(speeds[name])) for name in _NAMES), *ratios])
        cpu_rows.append([flows, *(median(cpu[name]) for name in _NAMES)])
        goals += _goals(flows, speeds)
        for name in _NAMES:
            curves[name].append((flows, median(speeds[name])))
    head = ["flows", *_NAMES, f"{OURS} / {UPSTREAM}", f"flow / {UPSTREAM}", f"{OURS} / {MEMORY}"]
    return Section(
        f'## Super-steps per second\n\nA loop of {STEPS} steps, `durability="sync"`, small state, no reads. '
        f"{MEMORY} is LangGraph's own cost: nothing can be faster. Higher is better.\n\n{table(head, speed_rows)}"
        "\nMilliseconds of CPU per super-step in the Python process, the server's not included. Lower is better.\n\n"
        f"{table(['flows', *_NAMES], cpu_rows)}",
        goals,
        [Curves("loop", "Super-steps per second", "flows", "super-steps/s", curves, doubling=True)],
    )


def _goals(flows: int, speeds: dict[str, list[float]]) -> list[Goal]:
    goals = [(UPSTREAM, _GOALS[flows])]
    if flows in _BESIDE_MEMORY:
        goals.append((MEMORY, _BESIDE_MEMORY[flows]))
    work = f"{flows} {'flow' if flows == 1 else 'flows'}: a loop of {STEPS} super-steps"
    return [
        Goal(
            f"{work}, beside {peer}",
            f"{number(got := ratio(speeds[OURS], speeds[peer]))} times "
            f"({median(speeds[OURS]):,.0f} and {median(speeds[peer]):,.0f} super-steps/s)",
            f"{goal} times",
            got >= goal,
        )
        for peer, goal in goals
    ]


def _rounds(place: Place, flows: int) -> int:
    """A turn of few flows is short, and one of many is long."""
    return place.rounds * 3 if flows == 1 else place.rounds if flows < 128 else max(1, place.rounds // 2)


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
