"""A user's flow, the same file under 0.1.0 and now: what it needs of Superstep is handed to `build`.

judge ─┬─ book ───┬─ remember (a subgraph with a memory of its own)
       └─ second ─┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TABLE = "CREATE TABLE ledger (id text PRIMARY KEY, amount bigint NOT NULL)"
ROW = "INSERT INTO ledger VALUES ('L-1', 1000)"
BALANCE = "SELECT amount FROM ledger WHERE id = 'L-1'"

# Requests that the model was really asked, in this process.
asked: list[str] = []


class Level(Enum):
    """An enum in the state."""

    LOW = "low"
    HIGH = "high"


@dataclass
class Claim:
    """A dataclass in the state."""

    id: str
    amount: int


class Note(BaseModel):
    """A pydantic model in the state, with an enum in it."""

    text: str
    level: Level


def extend(old: list[str], new: list[list[str]]) -> list[str]:
    """Reduce the writes of a super-step to the channel `log`."""
    return [*old, *(entry for entries in new for entry in entries)]


class State(TypedDict, total=False):
    """One channel of every kind that is stored in its own way."""

    messages: Annotated[list[AnyMessage], add_messages]
    claim: Claim
    note: Note
    level: Level
    log: Annotated[list[str], DeltaChannel(extend, list, snapshot_frequency=1000)]
    seen: int


class Memory(TypedDict, total=False):
    """What the subgraph remembers from run to run, and the outer flow does not know."""

    claim: Claim
    seen: int
    past: Annotated[list[str], lambda old, new: [*old, *new]]


class Judge(SimpleChatModel):
    """A model that can be counted."""

    @property
    def _llm_type(self) -> str:
        return "judge"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        asked.append(str(messages[-1].content))
        return f"judged: {messages[-1].content}"


def serde() -> JsonPlusSerializer:
    """A serializer that rebuilds the types of this module."""
    return JsonPlusSerializer(allowed_msgpack_modules=[(__name__, name) for name in ("Claim", "Level", "Note")])


async def nothing() -> None:
    """What the node `second` does before it ends."""


def build(current_step: Callable[[], Any], *, second_does: Callable[[], Awaitable[None]] = nothing) -> StateGraph[Any]:
    """Make the flow.

    Args:
        current_step: Superstep's.
        second_does: What the node `second` does, beside `book`.
    """

    async def judge(state: State) -> dict[str, Any]:
        claim = state["claim"]
        answer = await Judge().ainvoke([HumanMessage(f"claim {claim.id}", id=f"question-{claim.id}")])
        level = Level.HIGH if claim.amount > 100 else Level.LOW
        answer.id = f"answer-{claim.id}"
        return {"messages": [answer], "level": level, "note": Note(text=claim.id, level=level), "log": ["judge"]}

    async def book(state: State) -> dict[str, Any]:
        step, claim = current_step(), state["claim"]
        left = await step.fetchval(BALANCE) - claim.amount
        await Judge().ainvoke([HumanMessage(f"book {claim.id}", id=f"booking-{claim.id}")])
        step.stage("UPDATE ledger SET amount = $1 WHERE id = 'L-1'", left, expect_rows=1)
        return {"log": ["book"]}

    async def second(_: State) -> dict[str, Any]:
        await second_does()
        return {"log": ["second"]}

    async def remember(state: Memory) -> dict[str, Any]:
        past = [*state.get("past", []), state["claim"].id]
        return {"past": [state["claim"].id], "seen": len(past)}

    inner = StateGraph(Memory).add_node(remember).add_edge(START, "remember").compile(checkpointer=True)
    flow = StateGraph(State).add_node(judge).add_node(book).add_node(second).add_node("remember", inner)
    flow.add_edge(START, "judge").add_edge("judge", "book").add_edge("judge", "second")
    return flow.add_edge(["book", "second"], "remember")
