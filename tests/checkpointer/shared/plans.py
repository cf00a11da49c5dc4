"""Shared values that tests declare, and flows that reduce into them."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from superstep import current_step, shared, transactional
from superstep.reducers import append, compare_and_set, last_writer, maximum, merge, reject
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from collections import Counter

    from superstep import TransactionalSaver


class Item(BaseModel):
    id: int
    note: str = ""


class Plan(BaseModel):
    steps: list[Item] = Field(default_factory=list)
    owner: str | None = None
    seen: int = 0


class Few(BaseModel):
    items: list[int] = Field(default_factory=list, max_length=3)


PLAN = shared("test.plan", reducer=merge(steps=append(key="id"), seen=maximum()), model=Plan, default={})
TOTAL = shared("test.total", reducer=operator.add, model=int, default=0)
WORD = shared("test.word", reducer=last_writer())
ONCE = shared("test.once", reducer=reject(), model=str)
SLOT = shared("test.slot", reducer=compare_and_set(otherwise="refuse"), model=str)
KEPT = shared("test.kept", reducer=compare_and_set(), model=str)
FEW = shared("test.few", reducer=merge(items=append()), model=Few)


def adder(ran: Counter[str], barrier: asyncio.Barrier | None = None) -> Any:
    """A node that adds its thread to the plan and to the total, and reads neither."""

    async def add(state: Any) -> Any:
        step = current_step()
        ran[step.thread_id] += 1
        if barrier is not None:
            await barrier.wait()
        step.reduce("test.plan", "p", {"steps": [{"id": state["n"], "note": step.thread_id}]})
        return {}

    return add


async def run_all(saver: TransactionalSaver, node: Any, numbers: range, prefix: str = "t") -> list[Any]:
    """One flow for each number, all at once."""
    flow = transactional(chain(saver, node))
    runs = (flow.ainvoke({"n": number}, config_of(f"{prefix}-{number}")) for number in numbers)
    return await asyncio.gather(*runs)
