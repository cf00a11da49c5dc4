"""What belongs to a super-step or a run is freed with it, and does not wait for the collector of cyclic garbage."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from superstep import telemetry, transactional
from superstep.checkpointer import current_step
from tests.support.bank import BALANCE, DEBIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans
    from tests.support.bank import Bank

STEPS = 10
RUNS = 5


class Round(TypedDict):
    n: int


def loop(saver: TransactionalSaver, isolation: Literal["step", "flow"] = "step") -> Any:
    async def node(state: Round) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(DEBIT, 1)
        return {"n": state["n"] + 1}

    builder = StateGraph(Round).add_node("node", node).add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: "node" if state["n"] < STEPS else END)
    return transactional(builder.compile(checkpointer=saver), isolation=isolation)


@pytest.fixture
def collector() -> Iterator[None]:
    """Off, and keeping what it would have freed."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("traced", [False, True], ids=["off", "traced"])
@pytest.mark.parametrize("isolation", ["step", "flow"])  # with "flow", a run keeps what its results rest on
async def test_a_run_leaves_no_circles(
    saver: TransactionalSaver,
    bank: Bank,
    new_thread: Callable[[], RunnableConfig],
    spans: Spans,
    collector: None,
    *,
    isolation: Literal["step", "flow"],
    traced: bool,
) -> None:
    if not traced:
        telemetry(traces=False, metrics=False)
    flow = loop(saver, isolation)
    await flow.ainvoke({"n": 0}, new_thread())
    gc.collect()
    gc.garbage.clear()
    for _ in range(RUNS):
        await flow.ainvoke({"n": 0}, new_thread())
    gc.collect()
    left = Counter(type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("superstep"))
    assert {name: count for name, count in left.items() if count >= RUNS} == {}
