"""What abandoned tasks have staged is not written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_new_input_instead_of_an_answer_drops_what_the_abandoned_tasks_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def writes(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, f"run {state['n']}")
        return {"seen": ["writes"]}

    async def asks(state: Any) -> Any:
        return {"seen": [interrupt("?") if state["n"] == 1 else "asks"]}

    flow = transactional(fan(saver, writes, asks))
    await flow.ainvoke({"n": 1, "seen": []}, thread)
    await bank.set(5)  # nor do the abandoned facts matter any more
    assert (await flow.ainvoke({"n": 2}, thread))["seen"] == ["asks", "writes"]
    assert await bank.journal() == ["run 2"]
