"""Durability "exit": a run is saved when it ends, and has no barriers; refused only where a task uses its step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.channels.delta import DeltaChannel
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep.checkpointer import TransactionalSaver, current_step, record_call, spent
from superstep.checkpointer.langgraph.keys import DURABILITY
from superstep.runtime.faults import ConfigError, StaleRun
from tests.support.bank import BALANCE, Bank
from tests.support.graphs import State, chain, config_of, fan, steps_of
from tests.support.internals import pinned

if TYPE_CHECKING:
    from collections.abc import Callable

T = config_of("t")


def join(left: list[Any], right: list[list[Any]]) -> list[Any]:
    return [*left, *(item for items in right for item in items)]


class Delta(TypedDict):
    seen: Annotated[list[Any], DeltaChannel(join, list)]


def count(state: Any) -> Any:
    return {"n": state["n"] + 1, "seen": ["counted"]}


def again(state: Any) -> Any:
    return {"n": state["n"] + 1, "seen": ["again"]}


async def ask(state: Any) -> Any:
    return {"seen": [interrupt("?")]}


async def use(state: Any) -> Any:
    return {"n": await current_step().fetchval(BALANCE, 1)}


async def saved(saver: TransactionalSaver, config: Any = T) -> list[Any]:
    """The checkpoints of all namespaces, newest first."""
    return [each async for each in saver.alist(config)]


async def test_a_run_is_saved_once_at_its_end(saver: TransactionalSaver) -> None:
    graph = chain(saver, count, again)
    assert (await graph.ainvoke({"n": 0}, T, durability="exit"))["n"] == 2
    assert [each.metadata["step"] for each in await saved(saver)] == [2]
    assert [step.nodes for step in await steps_of(saver, T)] == [["again", "count"]]
    assert (await graph.ainvoke({"n": 5}, T, durability="exit"))["seen"] == ["counted", "again"] * 2
    assert len(await saved(saver)) == 2
    assert (await graph.aget_state(T)).next == ()


async def test_runs_of_one_thread_may_differ_in_durability(saver: TransactionalSaver) -> None:
    graph = chain(saver, count, use)
    for turn, durability in enumerate(("exit", "sync", "exit", "async")):
        run = graph.ainvoke({"n": turn}, T, durability=durability)  # type: ignore[call-overload]
        if durability == "exit":
            with pytest.raises(ConfigError, match='durability="exit"'):
                await run
        else:
            assert (await run)["n"] == 100
    # A run that failed is saved too, as far as it came: its first node is not run again.
    assert (await graph.aget_state(T)).values["seen"] == ["counted"] * 4


@pytest.mark.filterwarnings("ignore:`checkpoint_during` is deprecated")
@pytest.mark.parametrize(
    ("config", "options"),
    [({DURABILITY: "exit"}, {}), ({}, {"checkpoint_during": False}), ({}, {"durability": "exit"})],
)
async def test_however_it_is_asked_for(saver: TransactionalSaver, config: Any, options: Any) -> None:
    graph = chain(saver, count, use)
    with pytest.raises(ConfigError, match='durability="exit"'):
        await graph.ainvoke({"n": 0}, config_of("t", **config), **options)


async def test_a_task_that_uses_its_step_ends_the_run_by_name_and_the_thread_goes_on(
    saver: TransactionalSaver, bank: Bank
) -> None:
    async def write(state: Any) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ('x')")

    graph = chain(saver, count, write)
    with pytest.raises(ConfigError, match="current_step"):
        await graph.ainvoke({"n": 0}, T, durability="exit")
    assert await bank.journal() == []
    assert (await graph.aget_state(T)).next == ("write",)
    await graph.ainvoke(None, T)
    assert await bank.journal() == ["x"]
    assert pinned(saver) == 0


@pytest.mark.parametrize("resumed", ["exit", "sync"])
async def test_questions_and_answers(saver: TransactionalSaver, resumed: Any) -> None:
    graph = chain(saver, count, ask, again)
    asked = await graph.ainvoke({"n": 0}, T, durability="exit")
    assert [each.value for each in asked["__interrupt__"]] == ["?"]
    assert len(await saved(saver)) == 1
    assert (await graph.aget_state(T)).next == ("ask",)
    result = await graph.ainvoke(Command(resume="yes"), T, durability=resumed)
    assert result["seen"] == ["counted", "yes", "again"]


async def test_a_question_after_a_question(saver: TransactionalSaver) -> None:
    async def twice(state: Any) -> Any:
        return {"seen": [interrupt("one"), interrupt("two")]}

    graph = chain(saver, twice, ask)
    await graph.ainvoke({"n": 0}, T, durability="exit")
    for answer in ("a", "b"):
        assert (await graph.ainvoke(Command(resume=answer), T, durability="exit"))["__interrupt__"]
    assert (await graph.ainvoke(Command(resume="c"), T, durability="exit"))["seen"] == ["a", "b", "c"]


async def test_an_error_keeps_what_siblings_produced(saver: TransactionalSaver) -> None:
    runs: list[str] = []
    finished = asyncio.Event()

    async def done(state: Any) -> Any:
        runs.append("done")
        finished.set()
        return {"seen": ["done"]}

    async def broken(state: Any) -> Any:
        runs.append("broken")
        await finished.wait()
        await asyncio.sleep(0)
        if runs.count("broken") == 1:
            raise ZeroDivisionError
        return {"seen": ["mended"]}

    graph = fan(saver, broken, done)
    with pytest.raises(ZeroDivisionError):
        await graph.ainvoke({"n": 0}, T, durability="exit")
    assert (await graph.ainvoke(None, T, durability="exit"))["seen"] == ["mended", "done"]
    assert runs.count("done") == 1


@pytest.mark.parametrize("how", ["node", "called", "kept"])
async def test_subgraphs(saver: TransactionalSaver, how: str) -> None:
    inner = chain(True if how == "kept" else None, count, ask)

    async def call(state: Any) -> Any:
        return await inner.ainvoke({"n": state["n"]})

    middle = chain(None, call if how == "called" else inner_node(inner))
    graph = chain(saver, count, inner_node(middle), again)
    asked = await graph.ainvoke({"n": 0}, T, durability="exit")
    assert [each.value for each in asked["__interrupt__"]] == ["?"]
    assert {each.config["configurable"]["checkpoint_ns"].count("|") for each in await saved(saver)} == {0, 1}
    state = await graph.aget_state(T, subgraphs=True)
    assert state.next == ("inner",)
    result = await graph.ainvoke(Command(resume="yes"), T, durability="exit")
    assert result["n"] == 3
    assert result["seen"][-2:] == ["yes", "again"]


def inner_node(graph: Any) -> Callable[..., Any]:
    """A graph as a node, with the name that `chain` wants."""
    graph.__name__ = "inner"
    return graph  # type: ignore[no-any-return]


@pytest.mark.parametrize("outer", ["exit", "sync"])
async def test_a_subgraph_with_a_durability_of_its_own(saver: TransactionalSaver, outer: Any) -> None:
    """Whoever is inside of a graph that is saved at its end has no barrier; others have."""
    own: Any = "sync" if outer == "exit" else "exit"
    inner = chain(None, use)

    async def call(state: Any) -> Any:
        return await inner.ainvoke({"n": 0}, durability=own)

    async def before(state: Any) -> Any:
        return {"n": await current_step().fetchval(BALANCE, 1)} if outer == "sync" else {"n": 1}

    graph = chain(saver, before, call)
    with pytest.raises(ConfigError, match='durability="exit"'):
        await graph.ainvoke({"n": 0}, T, durability=outer)
    assert (await graph.aget_state(T)).values["n"] == (100 if outer == "sync" else 1)


async def test_a_subgraph_that_is_saved_earlier_than_the_graph_around_it(saver: TransactionalSaver) -> None:
    inner = chain(None, count, ask)

    async def call(state: Any) -> Any:
        return await inner.ainvoke({"n": state["n"]}, durability="sync")

    graph = chain(saver, count, call)
    assert (await graph.ainvoke({"n": 0}, T, durability="exit"))["__interrupt__"]
    result = await graph.ainvoke(Command(resume="yes"), T, durability="exit")
    assert result["seen"] == ["counted", "counted", "yes"]


async def test_results_that_rest_on_facts_are_not_continued_without_a_barrier(
    saver: TransactionalSaver, bank: Bank
) -> None:
    async def shown(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        return {"seen": [interrupt(balance)]}

    graph = chain(saver, shown)
    await graph.ainvoke({"n": 0}, T)
    with pytest.raises(ConfigError, match='durability="exit"'):
        await graph.ainvoke(Command(resume="yes"), T, durability="exit")
    assert (await graph.ainvoke(Command(resume="yes"), T))["seen"] == ["yes"]


async def test_a_later_run_fences_an_earlier_one(saver: TransactionalSaver) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(state: Any) -> Any:
        if state["n"] == 1:
            entered.set()
            await go_on.wait()
        return {"seen": [state["n"]]}

    graph = chain(saver, slow)
    first = asyncio.create_task(graph.ainvoke({"n": 1}, T, durability="exit"))
    await entered.wait()
    assert (await graph.ainvoke({"n": 2}, T, durability="exit"))["seen"] == [2]
    go_on.set()
    with pytest.raises(StaleRun):
        await first
    assert (await graph.aget_state(T)).values["seen"] == [2]
    assert len(await saved(saver)) == 1


async def test_sends_and_functions(saver: TransactionalSaver) -> None:
    async def plan(state: Any) -> Any:
        return Command(goto=[Send("each", {"n": n}) for n in range(3)])

    async def each(state: Any) -> Any:
        return {"seen": [state["n"]]}

    builder: Any = StateGraph(State)
    builder.add_node("plan", plan, destinations=("each",)).add_node("each", each).add_edge(START, "plan")
    graph = builder.compile(checkpointer=saver)
    assert (await graph.ainvoke({"seen": []}, T, durability="exit"))["seen"] == [0, 1, 2]

    @task
    async def double(n: int) -> int:
        return n * 2

    @entrypoint(checkpointer=saver)
    async def work(n: int, *, previous: int | None = None) -> int:
        return await double(n) + (previous or 0)

    for expected in (4, 8):
        assert await work.ainvoke(2, config_of("f"), durability="exit") == expected


async def test_delta_channels(saver: TransactionalSaver) -> None:
    builder: Any = StateGraph(Delta)
    builder.add_node("a", lambda state: {"seen": ["a"]}).add_node("b", lambda state: {"seen": ["b"]})
    graph = builder.add_edge(START, "a").add_edge("a", "b").compile(checkpointer=saver)
    for turn in range(3):
        result = await graph.ainvoke({"seen": [turn]}, T, durability="exit")
    assert result["seen"] == [0, "a", "b", 1, "a", "b", 2, "a", "b"]
    assert (await graph.aget_state(T)).values["seen"] == result["seen"]


async def test_calls_of_models_are_recorded_and_not_remembered(saver: TransactionalSaver, bank: Bank) -> None:
    model = FakeListChatModel(responses=["one", "two", "three"])
    broken = [True]

    async def say(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("hi")).content]}

    async def sometimes(state: Any) -> Any:
        said = await asyncio.to_thread(model.invoke, "hi")
        if broken.pop() if broken else False:
            raise ZeroDivisionError
        return {"seen": [said.content]}

    graph = chain(saver, say, sometimes)
    with pytest.raises(ZeroDivisionError):
        await graph.ainvoke({"n": 0}, T, durability="exit")
    assert (await graph.ainvoke(None, T, durability="exit"))["seen"] == ["one", "three"]
    assert len(await bank.do("SELECT * FROM runtime.model_call")) == 3
    assert await bank.do("SELECT * FROM runtime.llm_call") == []


async def test_what_a_run_has_cost(saver: TransactionalSaver) -> None:
    seen: list[Any] = []

    async def pay(state: Any) -> Any:
        await record_call({"outcome": "answered", "model": "m", "input_tokens": 3, "output_tokens": 4, "usd": 0.5})

    async def look(state: Any) -> Any:
        seen.append(await spent())

    graph = chain(saver, pay, look)
    for durability in ("exit", "exit", "async", "exit"):
        await graph.ainvoke({"n": 0}, T, durability=durability)  # type: ignore[call-overload]
    assert [each.run.usd for each in seen] == [0.5, 0.5, 0.5, 0.5]
    assert [each.thread.tokens for each in seen] == [7, 14, 21, 28]


def test_without_an_event_loop(sync_saver: TransactionalSaver) -> None:
    def wait(state: Any) -> Any:
        return {"seen": [interrupt("?")]}

    def use_it(state: Any) -> Any:
        return {"n": current_step().sync.fetchval(BALANCE, 1)}

    graph = chain(sync_saver, count, wait)
    assert graph.invoke({"n": 0}, T, durability="exit")["__interrupt__"]
    assert graph.invoke(Command(resume="yes"), T, durability="exit")["seen"] == ["counted", "yes"]
    with pytest.raises(ConfigError, match='durability="exit"'):
        chain(sync_saver, use_it).invoke({"n": 0}, config_of("u"), durability="exit")
