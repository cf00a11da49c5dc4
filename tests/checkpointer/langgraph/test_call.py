"""What LangGraph makes of a call, compared with the installed LangGraph."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.pregel import main

from superstep.checkpointer.langgraph.call import graph_call
from superstep.checkpointer.langgraph.keys import CHECKPOINTER, TASK_ID

TASK = {"thread_id": "outer", "checkpoint_ns": "node:1", TASK_ID: "1", CHECKPOINTER: "parents", "mine": 1}
CONFS: list[Any] = [
    None,
    {},
    {"thread_id": "t"},
    {"thread_id": None},
    {"thread_id": 7},
    {"checkpoint_ns": ""},
    {"checkpoint_ns": None},
    {"checkpoint_id": "c"},
    {"checkpoint_map": {}},
    {"checkpoint_map": {"": "c"}},
    {"mine": 2},
    TASK,
]


@pytest.mark.parametrize("inherited", [None, {"thread_id": "chain"}, TASK], ids=["alone", "in a chain", "in a task"])
@pytest.mark.parametrize("own", CONFS, ids=str)
@pytest.mark.parametrize("given", CONFS, ids=str)
def test_a_call_is_what_langgraph_makes_of_it(given: Any, own: Any, inherited: Any) -> None:
    configs = [None if conf is None else {"configurable": conf} for conf in (own, given)]
    token = var_child_runnable_config.set(None if inherited is None else {"configurable": inherited})
    try:
        theirs = main.ensure_config(*configs)["configurable"]
        call = graph_call(*configs, checkpointer="graphs")  # type: ignore[misc, arg-type]
    finally:
        var_child_runnable_config.reset(token)
    assert call.conf == theirs
    assert call.is_nested == (TASK_ID in theirs)
    assert call.checkpointer == ("parents" if CHECKPOINTER in theirs else "graphs")


def test_a_graph_without_checkpoints_has_none_in_a_task_either() -> None:
    assert graph_call(None, {"configurable": TASK}, False).checkpointer is False
