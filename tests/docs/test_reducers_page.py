"""docs/reducers.md: its blocks run, and do what is said of them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from superstep import TransactionalSaver, reducers, transactional
from superstep.checkpointer.shared import declared
from superstep.reducers import Conflict
from superstep.runtime import faults
from tests.docs.pages import blocks, page
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEXT = page("reducers.md")
FLOWS = 20


class Input(TypedDict, total=False):
    """What the nodes of the page take and give."""

    case: str
    task: str
    cost: float
    owner: str


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the page defines."""
    known = dict(declared._declared)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(TEXT, "python"):
        exec(compile(block, "reducers.md", "exec", dont_inherit=True), namespace)  # annotations are no texts there
    yield namespace
    declared._declared.clear()
    declared._declared.update(known)


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


async def test_the_state(names: dict[str, Any], saver: TransactionalSaver) -> None:
    builder = StateGraph(names["Case"])
    for name in ("documents", "network"):
        builder.add_node(name, names[name]).add_edge(START, name)
    config = config_of("t")
    assert await transactional(builder.compile(checkpointer=saver)).ainvoke({}, config) == {
        "findings": [{"id": "passport", "by": "documents"}, {"id": "ring", "by": "network"}],
        "risk": 0.9,
        "plan": {"steps": ["call"]},
        "owner": "bob",
    }
    told = await names["told"](saver, config)
    assert told["owner"] == [Conflict("bob", "ann")]
    assert set(told) == {"owner", "findings", "risk"}
    assert (await saver.asteps("t"))[-1].resolved == 3


def flow(saver: TransactionalSaver, node: Any) -> Any:
    return transactional(StateGraph(Input).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver))


async def test_flows_that_contribute_to_one_plan(names: dict[str, Any], saver: TransactionalSaver) -> None:
    ran: list[str] = []

    async def counted(state: Any) -> Any:
        ran.append(state["task"])
        return await names["contribute"](state)

    runs = (
        flow(saver, counted).ainvoke({"case": "c", "task": f"t{n}", "cost": n}, config_of(f"t{n}"))
        for n in range(FLOWS)
    )
    await asyncio.gather(*runs)
    plan = await saver.ashared("plan", "c")
    assert type(plan) is names["Plan"]
    assert sorted(step.id for step in plan.steps) == sorted(ran)
    assert len(ran) == FLOWS
    assert plan.budget == FLOWS - 1
    assert [update.version for update in await saver.ashared_history("plan", "c")] == list(range(1, FLOWS + 1))


async def test_two_that_take_one_desk(names: dict[str, Any], saver: TransactionalSaver) -> None:
    both, ran = asyncio.Barrier(2), [0]

    async def racing(state: Any) -> Any:
        ran[0] += 1
        result = await names["take"](state)
        if ran[0] <= 2:
            await both.wait()
        return result

    ends = await asyncio.gather(*(flow(saver, racing).ainvoke({"case": "c"}, config_of(t)) for t in "ab"))
    assert ran == [3]
    assert {end["owner"] for end in ends} == {await saver.ashared("desk", "c")}


async def test_the_upgrade(names: dict[str, Any], saver: TransactionalSaver) -> None:
    new = declared._declared.pop("ledger")
    names["shared"]("ledger", reducer=names["merge"]())
    await saver.areduce("ledger", "l", {"total": 250})
    declared._declared["ledger"] = new
    assert await saver.ashared("ledger", "l") == names["Ledger"](amount=2.5, currency="EUR")


def test_the_table_names_every_reducer_and_the_errors_there_are() -> None:
    table = TEXT.partition("|---|")[2].partition("\n\n")[0]
    cells = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| "))
    named = set(re.findall(r"`(\w+)\(", cells))
    assert named == {n for n in reducers.__all__ if n.islower() and n not in ("shared", "swap", "conflicts_in")}
    for error in ("UpdateInvalid", "SwapRefused", "WriteRefused", "SharedOutdated", "StagedWriteFailed"):
        assert f"`{error}`" in TEXT
        assert hasattr(faults, error)
