"""Twenty flows race for one account: each reads the balance, asks a model what to draw, and stages the new balance.

The staged write sets the balance to a number, so a flow that decided on an old one would undo another's draw.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from tests.benchmarks.section import Section
from tests.benchmarks.setting import thread, upstream
from tests.benchmarks.tables import table

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.benchmarks.setting import Place

__all__ = ["run"]

FLOWS = 20
START_BALANCE = 1000
DRAW = 7
_READ = "SELECT balance FROM account WHERE id = 1"
_WRITE = "UPDATE account SET balance = $1 WHERE id = 1"


class State(TypedDict, total=False):
    """Which flow this is, and what it drew."""

    flow: int
    drawn: int


class Teller(BaseChatModel):
    """Answers how much to draw, after a while; counts what would be paid."""

    seconds: float = 0.05
    paid: list[int] = []  # noqa: RUF012 - a pydantic field: copied for each instance

    @property
    def _llm_type(self) -> str:
        return "teller"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(str(DRAW)))])

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.paid.append(1)
        await asyncio.sleep(self.seconds)
        return self._generate(messages)


def _compile(node: Any, saver: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any]:
    builder = StateGraph(State)
    builder.add_node("draw", node)
    builder.add_edge(START, "draw")
    builder.add_edge("draw", END)
    return builder.compile(checkpointer=saver)


async def run(place: Place) -> Section:
    """The section."""
    async with await asyncpg.create_pool(place.url, min_size=1, max_size=FLOWS) as pool:
        await pool.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
        await pool.execute("INSERT INTO account VALUES (1, $1)", START_BALANCE)
        rows = [await _plain(place, pool)]
        for quotes in (True, False):
            results = [await _ours(place, pool, turn, quotes=quotes) for turn in range(place.size(5, 1))]
            middle = [median(column) for column in zip(*(figures for _, figures in results), strict=True)]
            name = "Superstep, the prompt quotes the balance" if quotes else "Superstep, the prompt does not"
            rows.append([name, " ".join(sorted({exact for exact, _ in results})), *map(int, middle[:-1]), middle[-1]])
    head = ["", "final balance", "conflicts", "repairs", "drifts", "LLM calls paid", "minimum", "seconds"]
    return Section(
        f"## A race for one row\n\n{FLOWS} flows at once, each draws {DRAW} of the same {START_BALANCE}: right is "
        f"{START_BALANCE - FLOWS * DRAW}. The model takes 50 ms. Medians. Twenty decisions need twenty calls; a prompt "
        f"that quotes a balance which then moved is another question, and is paid for again.\n\n" + table(head, rows)
    )


async def _plain(place: Place, pool: Any) -> list[Any]:
    """Without super-step transactions: the node reads and writes on its own."""
    teller = Teller()

    async def node(state: State) -> State:
        balance = await pool.fetchval(_READ)
        answer = await teller.ainvoke(f"flow {state['flow']}: the balance is {balance}")
        await pool.execute(_WRITE, balance - int(answer.text))
        return {"drawn": DRAW}

    async with upstream(place.url, FLOWS) as saver:
        seconds = await _race(_compile(node, saver), "plain")
    final = await pool.fetchval(_READ)
    lost = (final - (START_BALANCE - FLOWS * DRAW)) // DRAW
    await pool.execute(_WRITE, START_BALANCE)
    name = "LangGraph, node writes by itself"
    return [name, f"{final} ({lost} draws lost)", 0, 0, 0, len(teller.paid), FLOWS, seconds]


async def _ours(place: Place, pool: Any, turn: int, *, quotes: bool) -> tuple[str, list[float]]:
    teller = Teller()
    conflicts = 0

    async def node(state: State) -> State:
        step = current_step()
        balance = await step.fetchval(_READ)
        asked = f"flow {state['flow']}: the balance is {balance}" if quotes else f"flow {state['flow']}: how much?"
        answer = await teller.ainvoke(asked)
        step.stage(_WRITE, balance - int(answer.text), expect_rows=1)
        return {"drawn": DRAW}

    def count(_: Exception) -> None:
        nonlocal conflicts
        conflicts += 1

    async with TransactionalSaver.from_conn_string(place.url) as saver:
        await saver.setup()
        flow = transactional(_compile(node, saver))
        flow.on_conflict = count
        name = f"race {quotes} {turn}"
        seconds = await _race(flow, name)
        steps = [step for at in range(FLOWS) for step in await saver.asteps(f"{name} {at}")]
    final = await pool.fetchval(_READ)
    await pool.execute(_WRITE, START_BALANCE)
    exact = "exact" if final == START_BALANCE - FLOWS * DRAW else f"WRONG: {final}"
    repairs, drifts = (sum(getattr(step, name) for step in steps) for name in ("repairs", "drifts"))
    return exact, [conflicts, repairs, drifts, len(teller.paid), FLOWS, seconds]


async def _race(graph: Any, name: str) -> float:
    started = time.perf_counter()
    await asyncio.gather(
        *(graph.ainvoke({"flow": at}, thread(f"{name} {at}"), durability="sync") for at in range(FLOWS))
    )
    return time.perf_counter() - started
