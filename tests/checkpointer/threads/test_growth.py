"""Channels that grow, in the database: every checkpoint says what it would say if it had been stored whole."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import asyncpg
import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import AnyMessage, add_messages
from pydantic import BaseModel

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.serializer import strict
from superstep.runtime.faults import StaleRun, ValueIncomplete, ValueNotAuthentic
from tests.support.bank import BALANCE, SET
from tests.support.graphs import config_of
from tests.support.statements import all_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {**left, **right}


class Talk(TypedDict, total=False):
    """All that grows: messages, a list, a dict; and what the node is to do next."""

    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[Any], operator.add]
    known: Annotated[dict[str, Any], merged]
    do: str


def says(state: Talk) -> dict[str, Any]:
    n = len(state["messages"])
    text = f"answer {n} " * 20
    return {"messages": [AIMessage(text, id=f"a{n}")], "log": [n, {"n": [n]}], "known": {f"k{n}": text}}


def replaces(state: Talk) -> dict[str, Any]:
    middle = state["messages"][len(state["messages"]) // 2].id
    return {"messages": [AIMessage("replaced", id=middle)], "known": {"k1": "other"}}


def removes(state: Talk) -> dict[str, Any]:
    middle = state["messages"][len(state["messages"]) // 2].id
    return {"messages": [RemoveMessage(id=str(middle))]}


def forgets(state: Talk) -> dict[str, Any]:
    return {"messages": [RemoveMessage(id=str(each.id)) for each in state["messages"][:-2]]}


def scribbles(state: Talk) -> dict[str, Any]:
    """Changes what it was given, and says nothing of it."""
    state["messages"][0].content = f"scribbled {len(state['messages'])}"
    state["log"][1]["n"].append("scribbled")
    state["known"]["k1"] = "scribbled"
    return says(state)


ACTS: dict[str, Callable[[Talk], dict[str, Any]]] = {
    each.__name__: each for each in (says, replaces, removes, forgets, scribbles)
}


def talk(saver: BaseCheckpointSaver[Any] | None) -> CompiledStateGraph[Any]:
    """One node, which does what it is told."""

    async def act(state: Talk) -> dict[str, Any]:
        return ACTS[state["do"]](state)

    return StateGraph(Talk).add_node("act", act).add_edge(START, "act").add_edge("act", END).compile(checkpointer=saver)


_turn = iter(range(1_000_000))


def ask(do: str = "says") -> Any:
    n = next(_turn)
    return {"messages": [HumanMessage(f"question {n} " * 10, id=f"q{n}")], "do": do}


async def talked(graph: Any, turns: int) -> None:
    """So many turns of the thread "t"."""
    for _ in range(turns):
        await graph.ainvoke(ask(), config_of("t"))


async def states(graph: CompiledStateGraph[Any], thread: str) -> list[Any]:
    return [state.values async for state in graph.aget_state_history(config_of(thread))]


async def stored(saver: TransactionalSaver, thread: str, channel: str = "messages") -> list[bool]:
    """Of each version, in their order, whether it is stored whole."""
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT base FROM runtime.channel_value WHERE thread_id = $1 AND channel = $2 ORDER BY version",
            thread,
            channel,
        )
    return [row["base"] is None for row in rows]


def aes() -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(strict(), key=b"0123456789abcdef")


@pytest.fixture
async def secret(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url, serde=aes()) as saver:
        yield saver


# -- beside LangGraph's own saver, which stores everything whole -------------------------------------------------------


# Under "async", what a node changes in place may be stored with the checkpoint before, or not: nobody can say.
@pytest.mark.parametrize(
    ("do", "durability"),
    [(do, how) for do in ACTS for how in ("sync", "async", "exit") if (do, how) != ("scribbles", "async")],
)
async def test_the_history_is_that_of_a_saver_that_stores_everything_whole(
    saver: TransactionalSaver, do: str, durability: Any
) -> None:
    script = [ask(), ask(), ask(), ask(do), ask(do), ask(), ask(do), ask()]
    histories = []
    for checkpointer in (saver, InMemorySaver()):
        graph = talk(checkpointer)
        for given in script:
            await graph.ainvoke(_again(given), config_of("t"), durability=durability)
        histories.append(await states(graph, "t"))
    assert histories[0] == histories[1]
    for channel in ("messages", "log", "known"):
        assert channel == "log" or not all(await stored(saver, "t", channel)), "stored whole: this proves nothing"


def _again(given: Any) -> Any:
    """The same input for another graph: nodes change messages in place."""
    return {**given, "messages": [each.model_copy() for each in given["messages"]]}


@pytest.mark.parametrize("encrypted", [False, True])
async def test_forks_that_grow_from_one_base_have_nothing_of_each_other(
    saver: TransactionalSaver, secret: TransactionalSaver, encrypted: bool
) -> None:
    turns = [ask() for _ in range(12)]
    histories = []
    for checkpointer in (secret if encrypted else saver, InMemorySaver()):
        graph = talk(checkpointer)
        for given in turns[:6]:
            await graph.ainvoke(_again(given), config_of("t"))
        past = [state.config async for state in graph.aget_state_history(config_of("t")) if not state.next]
        for at, given in zip((2, 2, 0, 4, 2), turns[6:], strict=False):
            await graph.ainvoke(_again(given), past[at])
        await graph.aupdate_state(past[3], {"messages": [HumanMessage("by hand", id="hand")]}, as_node="act")
        await graph.ainvoke(_again(turns[11]), config_of("t"))
        histories.append(await states(graph, "t"))
    assert histories[0] == histories[1]


async def test_a_delta_channel_that_was_a_plain_one_begins_with_what_that_had(saver: TransactionalSaver) -> None:
    graph = talk(saver)
    await talked(graph, 5)
    before = (await graph.aget_state(config_of("t"))).values["log"]

    delta = DeltaChannel(lambda items, writes: [*items, *(each for write in writes for each in write)], list)
    later = TypedDict("later", {"log": Annotated[list[Any], delta], "n": int}, total=False)  # noqa: UP013 - resolved here

    async def more(state: Any) -> Any:
        return {"log": [len(state["log"])]}

    changed = StateGraph(later).add_node("more", more).add_edge(START, "more").compile(checkpointer=saver)
    await changed.ainvoke({"n": 1}, config_of("t"))
    assert (await changed.aget_state(config_of("t"))).values["log"] == [*before, len(before)]


# -- the commit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["commit.begun", "commit.staged", "commit.lost_answer", "commit.committed"])
async def test_a_commit_that_is_repeated_or_found_is_built_on(
    saver: TransactionalSaver, bank: Bank, point: str
) -> None:
    async def act(state: Talk) -> dict[str, Any]:
        step = current_step()
        step.stage(SET, await step.fetchval(BALANCE, 1) - 1, 1)
        return says(state)

    async def lose() -> None:
        failpoints.disarm(point)
        raise asyncpg.ConnectionDoesNotExistError

    graph = transactional(StateGraph(Talk).add_node("act", act).add_edge(START, "act").compile(checkpointer=saver))
    for _ in range(4):
        failpoints.arm(point, lose)
        await graph.ainvoke(ask(), config_of("t"))
    values = (await graph.aget_state(config_of("t"))).values
    assert [each.type for each in values["messages"]] == ["human", "ai"] * 4
    assert [each for each in values["log"] if isinstance(each, int)] == [1, 3, 5, 7]
    assert await bank.balance() == 96
    assert not all(await stored(saver, "t"))


async def test_a_step_that_drifted_builds_on_what_was_committed(saver: TransactionalSaver, bank: Bank) -> None:
    seen = []

    async def act(state: Talk) -> dict[str, Any]:
        step = current_step()
        seen.append(balance := await step.fetchval(BALANCE, 1))
        if len(seen) % 2:
            await bank.set(balance + 10)
        step.stage(SET, balance - 1, 1)
        return {**says(state), "log": [balance]}

    graph = transactional(StateGraph(Talk).add_node("act", act).add_edge(START, "act").compile(checkpointer=saver))
    await talked(graph, 4)
    values = (await graph.aget_state(config_of("t"))).values
    assert values["log"] == [110, 119, 128, 137]
    assert len(values["messages"]) == 8
    assert len(seen) == 8


@pytest.mark.parametrize("how", ["prune", "runs"])
async def test_a_run_whose_base_is_deleted_meanwhile_stores_nothing(
    saver: TransactionalSaver, bank: Bank, how: str
) -> None:
    graph = talk(saver)
    for n in range(4):
        await graph.ainvoke(ask(), {**config_of("t"), "metadata": {"run_id": f"r{n}"}})
    past = [state.config async for state in graph.aget_state_history(config_of("t"))]
    before = await states(graph, "t")
    reached, going_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        reached.set()
        await going_on.wait()

    failpoints.arm("commit.before_commit", pause)
    fork = asyncio.create_task(graph.ainvoke(ask(), past[4], durability="sync"))
    await reached.wait()
    failpoints.disarm("commit.before_commit")
    await (saver.aprune(["t"]) if how == "prune" else saver.adelete_for_runs(["r1", "r2"]))
    going_on.set()
    with pytest.raises(StaleRun):
        await fork
    left = await states(graph, "t")
    assert left == (before[:1] if how == "prune" else [*before[:3], *before[9:]])


# -- deleting and copying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_a_pruned_thread_keeps_is_whole_and_goes_on(
    saver: TransactionalSaver, secret: TransactionalSaver, encrypted: bool
) -> None:
    graph = talk(ours := secret if encrypted else saver)
    await talked(graph, 40)
    before, rows = await states(graph, "t"), await stored(ours, "t")
    await ours.aprune(["t"])
    assert await states(graph, "t") == before[:1]
    assert len(await stored(ours, "t")) < len(rows) / 2
    await graph.ainvoke(ask(), config_of("t"))
    assert len((await graph.aget_state(config_of("t"))).values["messages"]) == 82
    assert not (await stored(ours, "t"))[-1], "it builds on what was kept"


async def test_a_fork_keeps_its_base_when_the_run_that_stored_it_is_deleted(saver: TransactionalSaver) -> None:
    graph = talk(saver)
    for n in range(5):
        await graph.ainvoke(ask(), {**config_of("t"), "metadata": {"run_id": f"r{n}"}})
    past = [state.config async for state in graph.aget_state_history(config_of("t")) if not state.next]
    for n, at in enumerate((1, 3)):
        await graph.ainvoke(ask(), {**past[at], "metadata": {"run_id": f"f{n}"}})
    kept = [
        state.values
        async for state in graph.aget_state_history(config_of("t"))
        if str((state.metadata or {})["run_id"]).startswith("f")  # type: ignore[typeddict-item]
    ]
    await saver.adelete_for_runs([f"r{n}" for n in range(5)])
    assert await states(graph, "t") == kept
    assert len(kept) == 6
    assert any(await stored(saver, "t"))
    assert not all(await stored(saver, "t"))


class Card(BaseModel):
    """A class that only the graph's schema names."""

    number: int


class Cards(TypedDict, total=False):
    cards: Annotated[list[Card], operator.add]
    text: str


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_copy_goes_on_by_itself(saver: TransactionalSaver, secret: TransactionalSaver, encrypted: bool) -> None:
    async def more(state: Cards) -> Any:
        return {"cards": [Card(number=len(state["cards"]) + n) for n in range(20)]}

    ours = secret if encrypted else saver
    graph = StateGraph(Cards).add_node("more", more).add_edge(START, "more").compile(checkpointer=ours)
    for _ in range(5):
        await graph.ainvoke({"text": "x"}, config_of("t"))
    await ours.acopy_thread("t", "copy")
    assert await states(graph, "copy") == await states(graph, "t")
    assert await stored(ours, "copy", "cards") == await stored(ours, "t", "cards")
    await graph.ainvoke({"text": "x"}, config_of("copy"))
    await ours.adelete_thread("t")
    cards = (await graph.aget_state(config_of("copy"))).values["cards"]
    assert cards == [Card(number=n) for n in range(120)]
    assert not all(await stored(ours, "copy", "cards"))


# -- what comes from elsewhere -----------------------------------------------------------------------------------------

TAMPERED = {
    "another base": "UPDATE runtime.channel_value c SET base = (SELECT min(version) FROM runtime.channel_value w "
    "WHERE w.channel = c.channel) WHERE base IS NOT NULL",
    "a base taken away": "UPDATE runtime.channel_value SET base = NULL, kind = substr(kind, 12) WHERE base IS NOT NULL",
    "another's difference": "UPDATE runtime.channel_value c SET value = (SELECT value FROM runtime.channel_value w "
    "WHERE w.channel = c.channel AND w.base IS NOT NULL ORDER BY version LIMIT 1) WHERE base IS NOT NULL",
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_difference_counts_on_its_base_only(secret: TransactionalSaver, how: str) -> None:
    graph = talk(secret)
    await talked(graph, 8)
    async with secret.transaction() as tx:
        await tx.execute(TAMPERED[how])
    with pytest.raises(ValueNotAuthentic):
        await graph.ainvoke(ask(), config_of("t"))


async def test_a_worker_of_the_release_before_refuses_a_difference(saver: TransactionalSaver) -> None:
    """It does not know of bases, and must not take what was added for the value."""
    graph = talk(saver)
    await talked(graph, 4)
    async with saver.transaction() as tx:
        rows = await tx.fetch("SELECT kind, value, base FROM runtime.channel_value WHERE channel = 'messages'")
    for kind, value, base in rows:
        if base is None:
            assert JsonPlusSerializer().loads_typed((kind, value))
        else:
            with pytest.raises(NotImplementedError):
                JsonPlusSerializer().loads_typed((kind, value))


async def test_a_base_that_such_a_worker_has_pruned_is_said_to_be_gone(saver: TransactionalSaver) -> None:
    graph = talk(saver)
    await talked(graph, 4)
    async with saver.transaction() as tx:
        await tx.execute("DELETE FROM runtime.channel_value WHERE channel = 'messages' AND base IS NULL")
    with pytest.raises(ValueIncomplete, match="channel 'messages' of thread 't'"):
        await graph.ainvoke(ask(), config_of("t"))


async def test_a_circle_of_bases_ends(saver: TransactionalSaver) -> None:
    graph = talk(saver)
    await talked(graph, 4)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.channel_value SET base = version WHERE channel = 'messages'")
    with pytest.raises(ValueIncomplete):
        await graph.aget_state(config_of("t"))


async def test_versions_are_looked_up_by_their_key(saver: TransactionalSaver) -> None:
    """Not by reading what else the thread has stored: that grows."""
    graph = talk(saver)
    await talked(graph, 30)
    async with saver.transaction() as tx:
        await tx.execute("ANALYZE")
        sql = all_statements("runtime")["get_latest"]
        await tx.execute("SET LOCAL enable_seqscan = off")
        plan = await tx.fetch("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) " + sql, "t", "")
    scans = [line[0] for line in plan if "channel_value" in line[0]]
    assert scans
    assert all("rows=1.00" in line for line in scans), scans
