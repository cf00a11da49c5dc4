"""Tools read and write in the super-step of the node that calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph


def calls(*arguments: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A state whose last message asks for these tools."""
    wanted = [{"name": name, "args": args, "id": f"call-{n}"} for n, (name, args) in enumerate(arguments)]
    return {"messages": [AIMessage("", tool_calls=wanted)]}


def tool_graph(saver: Any, *tools: Any, **options: Any) -> CompiledStateGraph[Any]:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(tools, **options))
    builder.add_edge(START, "tools")
    return builder.compile(checkpointer=saver)


async def test_tools_read_and_stage_in_the_step_of_their_node(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @tool
    async def balance(account: int) -> str:
        """The balance."""
        current_step().stage(LOG, f"async {account}")
        return str(await current_step().fetchval(BALANCE, account))

    @tool
    def balance_sync(account: int) -> str:
        """The balance."""
        current_step().stage(LOG, f"sync {account}")
        return str(current_step().sync.fetchval(BALANCE, account))

    graph = tool_graph(saver, balance, balance_sync)
    result = await graph.ainvoke(calls(("balance", {"account": 1}), ("balance_sync", {"account": 2})), thread)
    assert [m.content for m in result["messages"][1:]] == ["100", "100"]
    assert sorted(await bank.journal()) == ["async 1", "sync 2"]
    (step,) = await steps_of(saver, thread)
    assert (step.nodes, step.reads, step.writes) == (["tools"], 2, 2)


@pytest.mark.parametrize("handle", [True, "sorry", Exception, (ValueError, StepConflict)])
@pytest.mark.parametrize("hold_idle", [0])
async def test_conflict_inside_a_tool_is_no_tool_message(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, handle: Any
) -> None:
    race = Race(bank, 55)

    @tool
    async def balance() -> str:
        """The balance."""
        first = await race.read()
        await current_step().fetchval(BALANCE, 2)  # here the first read is found to have moved
        return str(first)

    graph = tool_graph(saver, balance, handle_tool_errors=handle)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke(calls(("balance", {})), thread)
    assert caught.value.tasks == ("tools",)
    assert len((await graph.aget_state(thread)).values["messages"]) == 1
    result = await graph.ainvoke(None, thread)
    assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["55"]


@pytest.mark.parametrize("hold_idle", [0])
async def test_conflict_inside_a_sync_tool_is_retried(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    @tool
    def balance() -> str:
        """The balance."""
        first = race.read_sync()
        current_step().sync.fetchval(BALANCE, 2)
        return str(first)

    flow = transactional(tool_graph(saver, balance, handle_tool_errors=True))
    result = await flow.ainvoke(calls(("balance", {})), thread)
    assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["55"]


async def test_an_error_of_a_tool_still_is_a_tool_message(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @tool
    async def broken() -> str:
        """Fails."""
        await current_step().fetchval(BALANCE, 1)
        raise ValueError("out of paper")

    result = await tool_graph(saver, broken, handle_tool_errors=True).ainvoke(calls(("broken", {})), thread)
    (message,) = [m for m in result["messages"] if isinstance(m, ToolMessage)]
    assert message.status == "error"
    assert "out of paper" in message.content
