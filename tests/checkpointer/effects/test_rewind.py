"""Going back in time is a replay or a fork, and what was sent is not sent twice unless somebody says so.

The attacks are those of ACRFence (arXiv 2603.20625): an action that is replayed in other words, and an approval that is
revived on another branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep.checkpointer import current_step
from superstep.runtime.faults import ConfigError, EffectRepeated
from superstep.runtime.flow.transactional import transactional
from tests.support.effects import become, outbox, states, working
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.effects import Received


class Model:
    """What a model says to the same question, worded otherwise every time."""

    def __init__(self) -> None:
        self.calls = 0

    def says(self) -> dict[str, Any]:
        self.calls += 1
        return {"to": "ann", "cents": 250, "memo": f"wording {self.calls}"}


@pytest.fixture
def model() -> Model:
    return Model()


def paying(saver: TransactionalSaver, model: Model) -> Any:
    async def plan(_: Any) -> Any:
        return {"seen": ["plan"]}

    async def pay(_: Any) -> Any:
        current_step().emit("mail", model.says())
        return {"seen": ["pay"]}

    async def close(_: Any) -> Any:
        return {"seen": ["close"]}

    return chain(saver, plan, pay, close)


async def before(graph: Any, thread: RunnableConfig, node: str) -> RunnableConfig:
    """The checkpoint that this node was last run from."""
    async for state in graph.aget_state_history(thread):
        if state.next == (node,):
            return state.config
    raise AssertionError(node)


@pytest.mark.parametrize("back_to", ["plan", "pay"])
@pytest.mark.parametrize("how", ["replay", "fork"])
async def test_action_replay_is_refused_whatever_the_words(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received, model: Model, back_to: str, how: str
) -> None:
    """Attack 1: the agent is set back, and pays once more what it has paid, in other words."""
    graph = transactional(paying(saver, model))
    async with working(saver):
        await graph.ainvoke({"n": 0}, thread)
        await received.has(1)
        await become(saver, "delivered")
        there = await before(graph, thread, back_to)
        if how == "fork":
            there = await graph.aupdate_state(there, {"n": 1})
        with pytest.raises(EffectRepeated) as refused:
            await graph.ainvoke(None, there)
        assert refused.value.effect == received.effects[0].id
        assert (refused.value.topic, refused.value.task) == ("mail", "pay")
        # Nothing of the super-step is there, and the choice can be made without running it again.
        calls = model.calls
        with pytest.raises(EffectRepeated):
            await graph.ainvoke(None, thread)
        keeping = transactional(paying(saver, model), effects="keep")
        result = await keeping.ainvoke(None, thread)
        assert result["seen"][-1] == "close"
        assert model.calls == calls
        assert await states(saver) == ["delivered", "kept"]
    assert len(received.effects) == 1
    sent, kept = await outbox(saver)
    assert kept.stands_for == sent.id


async def test_a_fork_may_choose_to_send_again(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received, model: Model
) -> None:
    graph = transactional(paying(saver, model))
    async with working(saver):
        await graph.ainvoke({"n": 0}, thread)
        await received.has(1)
        there = await before(graph, thread, "plan")
        await graph.ainvoke(None, {"configurable": {**there["configurable"], "effects": "again"}})
        await received.has(2)
        await become(saver, "delivered", "delivered")
    first, second = received.effects
    assert first.id != second.id


async def test_keep_by_the_call(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received, model: Model
) -> None:
    graph = transactional(paying(saver, model))
    async with working(saver):
        await graph.ainvoke({"n": 0}, thread)
        await received.has(1)
        there = await before(graph, thread, "pay")
        await graph.ainvoke(None, {"configurable": {**there["configurable"], "effects": "keep"}})
        await become(saver, "delivered", "kept")
    assert len(received.effects) == 1


async def test_a_plain_graph_is_refused_too(saver: TransactionalSaver, thread: RunnableConfig, model: Model) -> None:
    """One that still waits to be delivered counts as sent: it will be."""
    graph = paying(saver, model)
    await graph.ainvoke({"n": 0}, thread)
    there = await before(graph, thread, "pay")
    with pytest.raises(EffectRepeated):
        await graph.ainvoke(None, there)
    await graph.ainvoke(None, {"configurable": {**thread["configurable"], "effects": "keep"}})
    assert await states(saver) == ["waiting", "kept"]


async def test_one_that_was_dropped_or_undone_may_be_sent_again(
    saver: TransactionalSaver, thread: RunnableConfig, model: Model
) -> None:
    graph = transactional(paying(saver, model))
    await graph.ainvoke({"n": 0}, thread)
    (sent,) = await outbox(saver)
    await saver.outbox.drop(sent.id)
    await graph.ainvoke(None, await before(graph, thread, "pay"))
    assert await states(saver) == ["dropped", "waiting"]


async def test_a_thread_that_goes_on_is_never_refused(
    saver: TransactionalSaver, thread: RunnableConfig, model: Model
) -> None:
    """Turn after turn the same node says the same: each time it is another effect."""
    graph = transactional(paying(saver, model))
    for _ in range(5):
        await graph.ainvoke({"n": 0}, thread)
    assert await states(saver) == ["waiting"] * 5


async def test_after_a_fork_each_branch_counts_on(
    saver: TransactionalSaver, thread: RunnableConfig, model: Model
) -> None:
    """Three turns; set back to the second; the second is a repetition, and so is the third; the fourth is new."""
    graph = transactional(paying(saver, model))
    turns = []
    for _ in range(3):
        await graph.ainvoke({"n": 0}, thread)
        turns.append(await before(graph, thread, "pay"))
    with pytest.raises(EffectRepeated) as refused:
        await graph.ainvoke(None, turns[1])
    assert refused.value.effect == (await outbox(saver))[1].id
    keep: RunnableConfig = {"configurable": {**thread["configurable"], "effects": "keep"}}
    await graph.ainvoke(None, keep)
    with pytest.raises(EffectRepeated) as refused:
        await graph.ainvoke({"n": 0}, thread)
    assert refused.value.effect == (await outbox(saver))[2].id
    await graph.ainvoke(None, keep)
    await graph.ainvoke({"n": 0}, thread)
    assert await states(saver) == ["waiting", "waiting", "waiting", "kept", "kept", "waiting"]


async def test_a_fork_before_the_first_one_and_an_effect_of_a_subgraph(
    saver: TransactionalSaver, thread: RunnableConfig, model: Model
) -> None:
    async def pay(_: Any) -> Any:
        current_step().emit("mail", model.says())
        return {"seen": ["pay"]}

    inner = StateGraph(State)
    inner.add_node("pay", pay)
    inner.add_edge(START, "pay")
    builder = StateGraph(State)
    builder.add_node("desk", inner.compile())
    builder.add_edge(START, "desk")
    graph = transactional(builder.compile(checkpointer=saver))
    await graph.ainvoke({"n": 0}, thread)
    there = await before(graph, thread, "desk")
    with pytest.raises(EffectRepeated):
        await graph.ainvoke(None, await graph.aupdate_state(there, {"n": 1}, as_node="__start__"))
    await graph.ainvoke(None, {"configurable": {**thread["configurable"], "effects": "keep"}})
    assert await states(saver) == ["waiting", "kept"]


@pytest.mark.parametrize("how", ["replay", "fork"])
async def test_a_revived_approval_counts_for_nothing(
    saver: TransactionalSaver, thread: RunnableConfig, received: Received, how: str
) -> None:
    """Attack 2: an approval that was given on one branch is not there on another: it is asked for again.

    And what was sent by that approval is not sent again by the second one, unless somebody says so.
    """
    asked = 0

    async def approve(state: Any) -> Any:
        nonlocal asked
        asked += 1
        answer = interrupt(f"pay {state['n']}?")
        return {"seen": [answer]}

    async def pay(state: Any) -> Any:
        current_step().emit("mail", {"cents": state["n"]})
        return {}

    graph = transactional(chain(saver, approve, pay))
    async with working(saver):
        await graph.ainvoke({"n": 10}, thread)
        await graph.ainvoke(Command(resume="yes"), thread)
        await received.has(1)
        await become(saver, "delivered")
        there = await before(graph, thread, "approve")
        if how == "fork":
            there = await graph.aupdate_state(there, {"n": 10_000}, as_node="__start__")
        result = await graph.ainvoke(None, there)
        assert result["__interrupt__"], "the approval of the other branch has counted"
        assert await states(saver) == ["delivered"]
        with pytest.raises(EffectRepeated):
            await graph.ainvoke(Command(resume="yes"), thread)
        await graph.ainvoke(None, {"configurable": {**thread["configurable"], "effects": "keep"}})
        assert await states(saver) == ["delivered", "kept"]
    assert received.payloads == [{"cents": 10}]


async def test_a_choice_that_is_none_is_named(saver: TransactionalSaver, thread: RunnableConfig, model: Model) -> None:
    with pytest.raises(ConfigError, match="again"):
        transactional(paying(saver, model), effects="twice")
    with pytest.raises(ConfigError, match="twice"):
        await paying(saver, model).ainvoke({}, {"configurable": {**thread["configurable"], "effects": "twice"}})
