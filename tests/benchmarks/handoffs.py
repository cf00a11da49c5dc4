"""What is handed from step to step and from flow to flow: guards, and a plan that all flows share."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from superstep import current_step, guard, shared, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.threads import provenance
from superstep.reducers import append, merge
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.setting import thread
from tests.benchmarks.tables import table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.benchmarks.setting import Place

    Node = Callable[["State"], Coroutine[Any, Any, "State"]]

__all__ = ["run"]

_FLOWS = 200
_READ = "SELECT balance FROM account WHERE id = $1"
_PLAN = shared("benchmark.plan", reducer=merge(steps=append()), default={"steps": []})


class State(TypedDict, total=False):
    """Which account, what is planned, what was done."""

    account: int
    plan: int
    done: int


async def run(place: Place) -> Section:
    """The section."""
    guards, ratio = await _guards(place)
    plans, goal = await _plans(place)
    return Section(f"{guards}\n{plans}", [ratio, goal])


@asynccontextmanager
async def _saver(place: Place) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(place.url) as saver:
        await saver.setup()
        yield saver


# -- guards ----------------------------------------------------------------------------------------------------------


async def _plans_it(state: State) -> State:
    return {"plan": await current_step().fetchval(_READ, state["account"])}


async def _does_it(state: State) -> State:
    current_step().stage("UPDATE account SET balance = balance WHERE id = $1", state["account"], expect_rows=1)
    return {"done": state["plan"]}


async def _looks_again(state: State) -> State:
    """What one writes without guards."""
    if await current_step().fetchval(_READ, state["account"]) != state["plan"]:
        raise AssertionError("nobody moves it here")
    return await _does_it(state)


async def _guards(place: Place) -> tuple[str, Goal]:
    """Flows of two steps, each on an account of its own: with a guard, with a read by hand, with nothing."""
    executors: dict[str, Callable[[], Any]] = {
        "no check": lambda: _does_it,
        "read again by hand": lambda: _looks_again,
        "guard": lambda: guard(_does_it, on="plan", otherwise="planner"),
    }
    rows, ratios = [], {}
    async with _saver(place) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account AS SELECT id, 100 AS balance FROM generate_series(1, 64) AS id")
            await tx.execute("ALTER TABLE account ADD PRIMARY KEY (id)")
        for at_once in (1, 16):
            seconds: dict[str, list[float]] = {name: [] for name in executors}
            for turn in range(place.rounds):
                for name, executor in executors.items():
                    provenance._guarded.clear()  # of the turn before: a process without guards stores nothing for them
                    flow = transactional(_two_steps(saver, executor()))
                    began = time.perf_counter()
                    await asyncio.gather(
                        *(_series(flow, f"{name} {turn}", at, place.size(30, 2)) for at in range(1, at_once + 1))
                    )
                    seconds[name].append(time.perf_counter() - began)
            flows = at_once * place.size(30, 2)
            for name, took in seconds.items():
                ratios[name, at_once] = median(a / b for a, b in zip(seconds["no check"], took, strict=True))
                rows.append([at_once, name, flows / median(took), ratios[name, at_once]])
    worst = min(ratios["guard", n] / ratios["read again by hand", n] for n in (1, 16))
    goal = Goal("guarded hand-off, beside reading again by hand", f"{worst:.2f} x", "≥ 0.80 x", worst >= 0.8)
    text = (
        "## Guards\n\nA planner reads a row, an executor writes it, in a super-step of its own. In between the row may "
        "move: nothing looks, the executor reads it again by itself, or a guard does, which also keeps the commit from "
        "coming after the move.\n\n"
    )
    return text + table(["flows at once", "", "flows/s", "beside no check"], rows), goal


def _two_steps(saver: TransactionalSaver, executor: Any) -> Any:
    builder = StateGraph(State).add_node("planner", _plans_it).add_node("executor", executor)
    builder.add_edge(START, "planner").add_edge("planner", "executor").add_edge("executor", END)
    return builder.compile(checkpointer=saver)


async def _series(flow: Any, name: str, account: int, times: int) -> None:
    for each in range(times):
        await flow.ainvoke({"account": account}, thread(f"{name} {account} {each}"))


# -- shared plans ----------------------------------------------------------------------------------------------------


async def _plans(place: Place) -> tuple[str, Goal]:
    """Flows that all add to one plan: merged in the commit, or read and written by each."""
    flows = place.size(_FLOWS, 8)
    rows, got = [], ""
    for name, node in (("reduced in the commit", _reduces), ("read, added to, written", _reads_and_writes)):
        ran = 0

        def counted(node: Node = node) -> Node:
            async def adds(state: State) -> State:
                nonlocal ran
                ran += 1
                return await node(state)

            return adds

        async with _saver(place) as saver:
            async with saver.transaction() as tx:
                await tx.execute("CREATE TABLE IF NOT EXISTS plan (id int PRIMARY KEY, steps int[] NOT NULL)")
                await tx.execute("INSERT INTO plan VALUES (1, '{}') ON CONFLICT DO NOTHING")
            flow = transactional(
                StateGraph(State).add_node("adds", counted()).add_edge(START, "adds").compile(checkpointer=saver)
            )
            began = time.perf_counter()
            await asyncio.gather(*(flow.ainvoke({"account": at}, thread(f"{name} {at}")) for at in range(flows)))
            seconds = time.perf_counter() - began
            steps = [step for at in range(flows) for step in await saver.asteps(f"{name} {at}")]
            kept = await _kept(saver, name)
        repairs, drifts = (sum(getattr(step, each) for step in steps) for each in ("repairs", "drifts"))
        rows.append([name, kept, ran, repairs, drifts, seconds])
        if not got:
            holds = ran == kept == flows
            got = f"{kept} kept, {ran} node executions"
    goal = Goal(f"{flows} flows add to one shared plan", got, f"{flows} kept, {flows} executions", holds)
    text = (
        f"## A shared plan\n\n{flows} flows at once add a step to one plan. The second row thinks for no time at all "
        "between its read and its write.\n\n"
    )
    return text + table(["", "steps kept", "node executions", "repairs", "drifts", "seconds"], rows), goal


async def _reduces(state: State) -> State:
    current_step().reduce(_PLAN.name, "p", {"steps": [state["account"]]})
    return {"done": 1}


async def _reads_and_writes(state: State) -> State:
    steps = await current_step().fetchval("SELECT steps FROM plan WHERE id = 1")
    current_step().stage("UPDATE plan SET steps = $1 WHERE id = 1", [*steps, state["account"]], expect_rows=1)
    return {"done": 1}


async def _kept(saver: TransactionalSaver, name: str) -> int:
    if name == "reduced in the commit":
        return len((await saver.ashared(_PLAN.name, "p"))["steps"])
    async with saver.transaction() as tx:
        return int(await tx.fetchval("SELECT cardinality(steps) FROM plan WHERE id = 1"))
