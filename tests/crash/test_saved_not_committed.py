"""Between the last task's saved result and the commit of its step there is a moment, too."""

from __future__ import annotations

import sys
from typing import Any

from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.cli.run.execute import Turn
from superstep.runtime.cli.run.resume import next_payload
from superstep.runtime.loading.loader import LoadedGraph
from tests.support.graphs import State, config_of

THREAD = config_of("t")


async def only(state: Any) -> Any:
    return {"n": 1}


async def test_a_step_whose_results_are_all_saved_is_not_finished(database_url: str) -> None:
    """LangGraph's `next` names only tasks without a result: it is empty here, although nothing has been committed."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        builder = StateGraph(State).add_node(only).add_edge(START, "only")
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"n": 0}, THREAD, interrupt_before=["only"])
        state = await graph.aget_state(THREAD)
        await saver.aput_writes(state.config, [("n", 1)], state.tasks[0].id)  # and here the process dies
        state = await graph.aget_state(THREAD)
        assert (state.next, len(state.tasks)) == ((), 1)

        turn = Turn(LoadedGraph("only", builder, sys.modules[__name__]), "only", "t", None, known=True)
        assert await next_payload(saver, turn, None) is None  # to go on with; not ThreadFinished
        assert (await transactional(graph).ainvoke(None, THREAD))["n"] == 1
