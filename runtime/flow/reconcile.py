"""Post-hoc reconciliation: would a finished flow decide otherwise on the state as it is now?

The thread is copied, and the copy runs again from its input, as a trial: what its nodes stage is withheld, models
answer what they answered then as long as they are asked the same, and the copy is deleted at the end. Nothing of the
thread and nothing of the domain changes. Reads are those of the database now: of a flow whose facts have not moved, the
decision must come out as it did, unless it rested on what no commit has validated (a cache, an index, an API), or on
chance. What has moved since, by the flow's own writes or by others', is another question, and is not compared.

A flow is compared up to its first super-step that stages writes, since what follows sees them; one that stages none, to
its end. Nodes run: what they do to the world otherwise than by their step, happens again.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from superstep.checkpointer import INTERRUPT, have_moved
from superstep.runtime.flow.jsonable import jsonable
from superstep.runtime.flow.transactional import TRIAL_OF

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from superstep.checkpointer import Decided, TransactionalSaver
    from superstep.runtime.flow.transactional import Transactional

__all__ = ["STAGED", "Reconciled", "reconcile", "without_ids"]

STAGED = "(staged writes)"  # among channels: one of the two would write where the other does not

Outcome = Literal["same", "differs", "facts moved", "asks a human", "failed", "forked", "no input"]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of one thread.

    Attributes:
        thread_id: the thread.
        graph: name of its graph, if that is known.
        outcome: "same" or "differs"; the others cannot be compared: its facts have moved since, it asks a human, it
            failed, it has branches, or its input is not kept.
        before: what channels said that differ.
        after: what they say now.
        facts: how many keys of facts both runs saw.
        observed: it read from elsewhere, too.
        llm_paid: calls of models that the trial has paid.
        llm_reused: those that were answered as before.
        error: of a trial that failed, class and message.
    """

    thread_id: str
    graph: str | None
    outcome: Outcome
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    facts: int = 0
    observed: bool = False
    llm_paid: int = 0
    llm_reused: int = 0
    error: str | None = None

    @property
    def is_compared(self) -> bool:
        """Whether it counts."""
        return self.outcome in ("same", "differs")

    @property
    def channels(self) -> list[str]:
        """Names of those that differ."""
        return sorted(self.before.keys() | self.after.keys())


async def reconcile(
    flow: Transactional, saver: TransactionalSaver, thread_id: str, *, channels: Collection[str] | None = None
) -> Reconciled:
    """Have a finished thread decide again, and compare.

    What is compared is noted for `runtime metrics`.

    Args:
        flow: the graph of the thread, on the saver.
        saver: where the thread is.
        thread_id: the thread.
        channels: those that are the decision; all by default. Ids of messages and tool calls do not count.

    Re-run contract: nodes of the flow run again, see the module.
    """
    first = await saver.alast_input(thread_id)
    if first is None:
        return Reconciled(thread_id, flow.label, "no input")
    then = await saver.adecided(thread_id, first)
    if then.forked or then.checkpoint_id is None:
        return Reconciled(thread_id, flow.label, "forked" if then.forked else "no input")
    trial_id = f"reconcile:{uuid4()}"
    await saver.acopy_thread(thread_id, trial_id)
    try:
        found = await _Trial(flow, saver, thread_id, trial_id, first, then).compared(channels)
    finally:
        await saver.adelete_thread(trial_id)
    if found.is_compared:
        noted = (found.channels, found.llm_paid, found.llm_reused)
        await saver.anote_reconciliation(thread_id, then.checkpoint_id, flow.label, *noted)
    return found


@dataclass(frozen=True, slots=True)
class _Trial:
    """One trial."""

    flow: Transactional
    saver: TransactionalSaver
    thread_id: str
    trial_id: str
    first: str
    then: Decided

    async def compared(self, channels: Collection[str] | None) -> Reconciled:
        try:
            asks = await self._run()
        except Exception as error:  # noqa: BLE001 - whatever a node raises is what came of the trial
            return await self._told("failed", error=f"{type(error).__name__}: {error}")
        if asks:
            return await self._told("asks a human")
        now = await self._decided()
        facts = len(self.then.facts.keys() & now.facts.keys())
        seen: dict[str, Any] = {"facts": facts, "observed": self.then.observed or now.observed}
        if have_moved(self.then, now):
            return await self._told("facts moved", **seen)
        before = await self._values(self.thread_id, self.then, channels)
        after = await self._values(self.trial_id, now, channels)
        if self.then.at_end != now.at_end:
            before[STAGED], after[STAGED] = not self.then.at_end, not now.at_end
        differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return await self._told(
            "differs" if differing else "same",
            before={name: before[name] for name in differing if name in before},
            after={name: after[name] for name in differing if name in after},
            **seen,
        )

    async def _run(self) -> bool:
        """Run to the end, or as far as it can be compared; whether it asks a human."""
        place = {"thread_id": self.trial_id, "checkpoint_ns": "", "checkpoint_id": self.first}
        how: dict[str, Any] = {"stream_mode": "values", TRIAL_OF: self.thread_id}
        async with aclosing(self.flow.astream(None, {"configurable": place}, **how)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, dict) and INTERRUPT in chunk:
                    return True
                if not (await self._decided()).at_end:
                    return False
        return False

    async def _decided(self) -> Decided:
        return await self.saver.adecided(self.trial_id, self.first, self.then.steps)

    async def _values(self, thread_id: str, at: Decided, channels: Collection[str] | None) -> dict[str, Any]:
        place = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": at.checkpoint_id or self.first}
        values = (await self.flow.aget_state({"configurable": place})).values
        named = values if isinstance(values, dict) else {"value": values}
        return {n: without_ids(jsonable(value)) for n, value in named.items() if channels is None or n in channels}

    async def _told(self, outcome: Outcome, **more: Any) -> Reconciled:
        steps = [s for s in await self.saver.asteps(self.trial_id) if s.checkpoint_id not in self.then.steps]
        paid = sum(step.llm_paid for step in steps if step.checkpoint_id > self.first)
        reused = sum(step.llm_reused for step in steps if step.checkpoint_id > self.first)
        return Reconciled(self.thread_id, self.flow.label, outcome, llm_paid=paid, llm_reused=reused, **more)


def without_ids(value: Any) -> Any:
    """A value as JSON, without what is another one each time a message is made: its id, and those of tool calls."""
    if isinstance(value, list):
        return [without_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    message = {"type", "content"} <= value.keys() or value.get("type") == "tool_call"
    return {name: without_ids(each) for name, each in value.items() if not (message and name == "id")}
