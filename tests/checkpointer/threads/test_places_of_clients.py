"""Configs as clients send them, and checkpoints as other versions of LangGraph have written them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Command, Interrupt, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import chain, config_of, steps_of

if TYPE_CHECKING:
    from tests.support.bank import Bank


@pytest.mark.parametrize("wrap", [False, True])
async def test_a_namespace_of_null_is_the_outermost_graphs(
    saver: TransactionalSaver, bank: Bank, *, wrap: bool
) -> None:
    """Clients that speak JSON send what they have no value for as null."""

    async def inner(state: Any) -> Any:
        current_step().stage(LOG, "inner")
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    subgraph = chain(None, inner)

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "node")
        await current_step().fetchval(BALANCE, 1)
        return {"seen": (await subgraph.ainvoke({"seen": []}))["seen"] + [interrupt("sure?")]}

    graph = chain(saver, node)
    flow = transactional(graph) if wrap else graph
    place = config_of("t", checkpoint_ns=None)
    async with asyncio.timeout(30):
        assert "__interrupt__" in await flow.ainvoke({"seen": []}, place)
        assert (await flow.aget_state(place)).next == ("node",)
        assert (await flow.ainvoke(Command(resume="yes"), place))["seen"] == [100, "yes"]
    assert sorted(await bank.journal()) == ["inner", "node"]
    assert [step.checkpoint_ns for step in await steps_of(saver, config_of("t"))][-1] == ""
    history = [each async for each in flow.aget_state_history(config_of("t"))]
    assert next(each.values.get("seen") for each in history) == [100, "yes"]
    async for each in saver.alist(config_of("t")):
        assert set(each.metadata.get("parents", {})) <= {""}
    await flow.aupdate_state(place, {"seen": ["more"]}, as_node="node")
    assert (await flow.aget_state(config_of("t"))).values["seen"] == [100, "yes", "more"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
async def test_a_question_of_an_older_format_is_answered(saver: TransactionalSaver, *, by_id: bool, wrap: bool) -> None:
    """LangGraph migrates the checkpoint on loading it, and its tasks have other ids than the question was saved for."""

    async def ask(state: Any) -> Any:
        return {"seen": [interrupt("sure?")]}

    graph = chain(saver, ask)
    flow = transactional(graph) if wrap else graph
    checkpoint: Any = {
        **empty_checkpoint(),
        "v": 2,
        "channel_values": {"start:ask": "__start__", "seen": ["old"]},
        "channel_versions": {"__start__": "00000001.1", "start:ask": "00000002.1", "seen": "00000002.1"},
        "versions_seen": {"__input__": {}, "__start__": {"__start__": "00000001.1"}},
    }
    stored = await saver.aput(
        config_of("t", checkpoint_ns=""), checkpoint, {"source": "loop", "step": 0}, checkpoint["channel_versions"]
    )
    await saver.aput_writes(stored, [("__interrupt__", (Interrupt("sure?", id="1" * 32),))], "an-old-id")
    async with asyncio.timeout(30):
        if by_id:  # an id that LangGraph has not given itself is of no task it knows
            shown = (await flow.ainvoke(None, config_of("t")))["__interrupt__"]
            answer: Any = Command(resume={shown[0].id: "yes"})
        else:
            answer = Command(resume="yes")
        assert (await flow.ainvoke(answer, config_of("t")))["seen"] == ["old", "yes"]
