"""One thread of many that are resumed: without progress, and without its report."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import INTERRUPT
from superstep.runtime.cli.run.execute import Turn, wrapped
from superstep.runtime.cli.run.resume import WAITING, load_graph_of, next_payload
from superstep.runtime.cli.run.run_options import RunOptions
from superstep.runtime.loading.hooks import prepared

if TYPE_CHECKING:
    from superstep.checkpointer import ThreadSummary, TransactionalSaver
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["resumed"]


async def resumed(
    saver: TransactionalSaver, thread: ThreadSummary, answer: tuple[Any] | None, settings: CommandSettings
) -> str:
    """Resume a thread; how its run has ended: "completed" or "interrupted".

    Raises:
        GraphNotFound: its graph is not where it was.
        ThreadFinished: nothing is left to run.
        InputInvalid: it waits for no answer, or for several.
        ThreadBusy: another process runs it.
    """
    how = RunOptions()
    loaded = await load_graph_of(saver, thread, None, how.factory_call(thread.thread_id))
    async with aclosing(loaded):
        turn = Turn(loaded, thread.graph or loaded.name, thread.thread_id, None, known=True, how=how)
        turn.payload = await next_payload(saver, turn, answer)
        async with prepared(loaded, saver):
            flow = wrapped(turn, saver, settings)
            if turn.payload is WAITING:
                return "interrupted"
            result = await flow.ainvoke(turn.payload, turn.config)
            return "interrupted" if isinstance(result, dict) and INTERRUPT in result else "completed"
