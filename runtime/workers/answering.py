"""A run that goes on with a thread that waits: with an answer, or because what it waits for has come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.types import Command

from superstep.checkpointer import Delivery
from superstep.runtime.faults import AnswerRefused

if TYPE_CHECKING:
    from superstep.checkpointer import Claimed, Request, TransactionalSaver

__all__ = ["Entry", "entry", "unheard"]


class Entry(NamedTuple):
    """How such a run enters its thread.

    Attributes:
        request: with what.
        begun: it has entered it before: it goes on from where it was left.
        delivery: on what terms it takes the thread; by default as the run was given out.
        withdrawn: how often its question was withdrawn before; `None` if that is not known.
    """

    request: Request
    begun: bool
    delivery: Delivery | None
    withdrawn: int | None = None


async def entry(
    saver: TransactionalSaver, run: Claimed, request: Request, *, begun: bool
) -> Entry | AnswerRefused | None:
    """How a run enters its thread. If nobody waits for it any more: a refusal of what somebody has sent, else `None`.

    Args:
        saver: of its graph.
        run: the run.
        request: what is stored with it.
        begun: checkpoints of it are stored.
    """
    standing = await saver.fleet.standing(run)
    around = await saver.fleet.surroundings(run, request, saver.serde)
    if standing is not None and standing.is_open:
        resume: Command[Any] | None = None if run.answer == "child" else Command(resume={run.asked_as: request.input})
        terms = Delivery(run.run_id, run.delivery, standing.token, run.question)
        return Entry(replace(around, input=resume), begun=False, delivery=terms, withdrawn=standing.withdrawn)
    if standing is not None and (standing.is_ours or begun):
        return Entry(around, begun=True, delivery=Delivery(run.run_id, run.delivery))
    if run.answer != "sent":
        return None
    why = "its thread is gone" if standing is None else "it was answered, withdrawn or left behind meanwhile"
    return AnswerRefused(
        f"Question {run.asked_as} of thread {run.thread_id!r} is not open any more: {why}. The answer counts for none. "
        f"See what the thread asks now with `runtime show`, and send another one.",
        thread=run.thread_id,
        interrupt=run.asked_as,
    )


async def unheard(saver: TransactionalSaver, run: Claimed, entered: Entry) -> str | None:
    """After a run: why the answer that somebody has sent did not count, if the facts had moved meanwhile."""
    if run.answer != "sent" or entered.withdrawn is None:
        return None
    if not await saver.fleet.was_withdrawn(run, entered.withdrawn):
        return None
    return (
        f"AnswerRefused: The facts have moved that question {run.asked_as} of thread {run.thread_id!r} was asked on. "
        f"The answer counts for none: the node has run again. See what the thread asks now with `runtime show`."
    )
