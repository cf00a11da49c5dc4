"""Threads of many shapes, as LangGraph's own Postgres saver stores them: how each begins, and how it goes on."""

from __future__ import annotations

import dataclasses
import enum
import operator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from langgraph.pregel import Pregel

BROKEN = {"is": True}
"""Whether nodes that can fail do."""


class Suit(enum.Enum):
    HEARTS = "hearts"
    SPADES = "spades"


class Card(BaseModel):
    suit: Suit
    rank: int = 1


@dataclasses.dataclass
class Hand:
    cards: list[Card]


class Pair(NamedTuple):
    left: int
    right: int


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Shape(NamedTuple):
    """A graph, what brings a thread of it to where it is imported, what goes on from there, its status then."""

    name: str
    make: Callable[[Any], Pregel[Any, Any, Any, Any]]
    inputs: Sequence[Any]
    then: Any
    status: str


def finished(saver: Any) -> Any:
    class Chat(TypedDict, total=False):
        messages: Annotated[list[AnyMessage], add_messages]
        text: str
        big: dict[str, Any]

    async def answer(state: Any) -> Any:
        last = state["messages"][-1]
        reply = AIMessage(f"re: {last.content}", id=f"{last.id}-re", usage_metadata=None)
        return {"messages": [reply], "text": "x" * 1000, "big": {"bytes": b"\0\1", "none": None, "n": 2**60}}

    return StateGraph(Chat).add_node(answer).add_edge(START, "answer").compile(checkpointer=saver)


def interrupted(saver: Any) -> Any:
    """Two parallel nodes: one has ended, one has asked twice and waits for its third answer."""

    async def quick(_: Any) -> Any:
        return {"log": ["quick"]}

    async def asks(_: Any) -> Any:
        return {"log": [interrupt({"question": n}) for n in range(3)]}

    async def last(state: Any) -> Any:
        return {"log": [f"{len(state['log'])} so far"]}

    builder = StateGraph(Log).add_node(quick).add_node(asks).add_node(last)
    builder.add_edge(START, "quick").add_edge(START, "asks").add_edge(["quick", "asks"], "last")
    return builder.compile(checkpointer=saver)


def failed(saver: Any) -> Any:
    async def good(_: Any) -> Any:
        return {"log": ["good"]}

    async def bad(_: Any) -> Any:
        if BROKEN["is"]:
            raise ValueError("the disk is full")
        return {"log": ["mended"]}

    builder = StateGraph(Log).add_node(good).add_node(bad)
    return builder.add_edge(START, "good").add_edge(START, "bad").compile(checkpointer=saver)


def nested(saver: Any) -> Any:
    """A subgraph that keeps its state from call to call, and waits in its second call; inside of one that does not."""

    async def remember(state: Any) -> Any:
        return {"log": [f"call {len(state['log'])}"]}

    async def ask(state: Any) -> Any:
        return {"log": [interrupt("go on?")] if len(state["log"]) > 2 else []}

    kept = StateGraph(Log).add_node(remember).add_node(ask).add_edge(START, "remember").add_edge("remember", "ask")
    middle = StateGraph(Log).add_node("kept", kept.compile(checkpointer=True)).add_edge(START, "kept")
    outer = StateGraph(Log).add_node("middle", middle.compile()).add_node("after", remember)
    return outer.add_edge(START, "middle").add_edge("middle", "after").compile(checkpointer=saver)


def fan_out(saver: Any) -> Any:
    async def work(state: Any) -> Any:
        if state["n"] == 2:
            return {"log": [f"2: {interrupt('what of two?')}"]}
        return {"log": [f"{state['n']}"]}

    async def plan(_: Any) -> Any:
        return {"log": ["plan"]}

    def each(_: Any) -> list[Send]:
        return [Send("work", {"n": n}) for n in range(4)]

    builder = StateGraph(Log).add_node(plan).add_node("work", work)
    builder.add_edge(START, "plan").add_conditional_edges("plan", each, ["work"])
    return builder.compile(checkpointer=saver)


def objects(saver: Any) -> Any:
    class State(BaseModel):
        hand: Hand | None = None
        suits: set[Suit] = set()
        pair: Pair | None = None
        note: str = ""

    async def deal(_: State) -> Any:
        return {"hand": Hand([Card(suit=Suit.HEARTS), Card(suit=Suit.SPADES, rank=2)]), "suits": {Suit.SPADES}}

    async def ask(state: State) -> Any:
        card = interrupt(Card(suit=Suit.HEARTS, rank=9))
        assert state.hand is not None
        return {"pair": Pair(1, state.hand.cards[1].rank), "note": f"{card}"}

    builder = StateGraph(State).add_node(deal).add_node(ask).add_edge(START, "deal").add_edge("deal", "ask")
    return builder.compile(checkpointer=saver)


def delta(saver: Any) -> Any:
    def extend(items: list[Any], writes: Sequence[Any]) -> list[Any]:
        return [*items, *(item for write in writes for item in write)]

    channel = DeltaChannel(extend, list, snapshot_frequency=3)
    state = TypedDict("state", {"log": Annotated[list[str], channel], "n": int}, total=False)  # noqa: UP013

    async def write(state: Any) -> Any:
        return {"log": [f"{len(state.get('log', []))}"]}

    async def idle(_: Any) -> Any:
        return {"n": 1}

    builder = StateGraph(state).add_node(write).add_node(idle).add_edge(START, "write").add_edge("write", "idle")
    return builder.compile(checkpointer=saver)


def functional(saver: Any) -> Any:
    @task
    async def double(n: int) -> int:
        return n * 2

    @entrypoint(checkpointer=saver)
    async def flow(n: int, *, previous: int | None = None) -> Any:
        doubled = await double(n)
        answer = interrupt(f"{doubled} or more?") if n > 1 else 0
        return entrypoint.final(value=doubled + answer, save=doubled + (previous or 0))

    return flow


def stopped(saver: Any) -> Any:
    """Stops before the node that two others lead to together."""

    async def one(_: Any) -> Any:
        return {"log": ["one"]}

    async def two(_: Any) -> Any:
        return {"log": ["two"]}

    async def both(_: Any) -> Any:
        return {"log": ["both"]}

    builder = StateGraph(Log).add_node(one).add_node(two).add_node(both)
    builder.add_edge(START, "one").add_edge(START, "two").add_edge(["one", "two"], "both").add_edge("both", END)
    return builder.compile(checkpointer=saver, interrupt_before=["both"])


def _say(text: str) -> Any:
    return {"messages": [HumanMessage(text, id=text)]}


def _answer(value: Any) -> Any:
    return Command(resume=value)


SHAPES = [
    Shape("finished", finished, [_say("a"), _say("b")], _say("c"), "completed"),
    Shape("interrupted", interrupted, [{"log": []}, *map(_answer, "ab")], _answer("c"), "interrupted"),
    Shape("failed", failed, [{"log": ["in"]}], None, "failed"),
    Shape("nested", nested, [{"log": ["1"]}, {"log": ["2"]}], _answer("yes"), "interrupted"),
    Shape("fan_out", fan_out, [{"log": []}], _answer("fine"), "interrupted"),
    Shape("objects", objects, [{"note": "begin"}], _answer("ace"), "interrupted"),
    Shape("delta", delta, [{"log": [f"{n}"]} for n in range(5)], {"log": ["last"]}, "completed"),
    Shape("functional", functional, [1, 4], _answer(3), "interrupted"),
    Shape("functional_done", functional, [1], 1, "completed"),
    Shape("stopped", stopped, [{"log": []}], None, "unfinished"),
]


@asynccontextmanager
async def langgraphs_saver(url: str, **more: Any) -> AsyncIterator[AsyncPostgresSaver]:
    """LangGraph's saver, with its tables."""
    async with AsyncPostgresSaver.from_conn_string(url, **more) as saver:
        await saver.setup()
        yield saver


async def begin(shape: Shape, saver: Any, thread_id: str | None = None) -> None:
    """Bring a thread of LangGraph's to where it is imported."""
    graph, config = shape.make(saver), config_of(thread_id or shape.name)
    BROKEN["is"] = True
    for each in shape.inputs:
        with suppress(ValueError):
            await graph.ainvoke(each, config)


async def go_on(shape: Shape, graph: Any, thread_id: str | None = None) -> Any:
    """Go on with a thread; what comes of it."""
    BROKEN["is"] = False
    try:
        return await graph.ainvoke(shape.then, config_of(thread_id or shape.name))
    finally:
        BROKEN["is"] = True


def told(snapshot: Any) -> dict[str, Any]:
    """All that a snapshot says."""
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "config": snapshot.config["configurable"],
        "parent": (snapshot.parent_config or {}).get("configurable"),
        "metadata": snapshot.metadata,
        "created_at": snapshot.created_at,
        "interrupts": snapshot.interrupts,
        "tasks": [(t.id, t.name, t.path, t.error, t.interrupts, t.result, _inside(t.state)) for t in snapshot.tasks],
    }


def _inside(state: Any) -> Any:
    return told(state) if hasattr(state, "tasks") else state


async def history(graph: Any, thread_id: str) -> list[dict[str, Any]]:
    """The whole history of a thread, and its state with that of its subgraphs."""
    config = config_of(thread_id)
    state = told(await graph.aget_state(config, subgraphs=True))
    return [state, *[told(each) async for each in graph.aget_state_history(config)]]
