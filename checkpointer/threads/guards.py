"""Guards: whether what a state's channels were made of still holds, before a node goes on from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.langgraph.going_back import accumulating, go_anywhere
from superstep.checkpointer.step.stands import facts_stand
from superstep.checkpointer.threads.current import current_step, current_task
from superstep.runtime.faults import ProvenanceMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.step.read_set import Read
    from superstep.checkpointer.threads.current import CurrentTask
    from superstep.checkpointer.threads.provenance import Entry

__all__ = ["guarded_facts_stand", "guarded_facts_stand_sync"]


async def guarded_facts_stand(channels: Sequence[str]) -> bool:
    """Whether the facts that these channels' values rest on still hold, in the snapshot of the running task's step.

    They join the facts of the task: its super-step commits only if they hold then. If some do not, the task rests on
    that they have moved.

    Raises:
        ProvenanceMissing: it is not known what a channel rests on.
        NoActiveStep: see `current_step`.
    """
    here, database = _entered()
    return await database.home.call(_stand(here, channels, accumulating(channels)))


def guarded_facts_stand_sync(channels: Sequence[str]) -> bool:
    """As `guarded_facts_stand`, for synchronous nodes; blocks the calling thread."""
    here, database = _entered()
    return database.home.block(_stand(here, channels, accumulating(channels)))


def _entered() -> tuple[CurrentTask, Database]:
    current_step()  # marks the execution as one whose result rests on facts
    go_anywhere()
    here = current_task()
    return here, here.runs.database


async def _stand(here: CurrentTask, channels: Sequence[str], accumulate: Collection[str]) -> bool:
    step, attempt = here.enter()
    await step.begun()  # what the steps before have committed is known from then on
    facts: list[Read] = []
    for channel in channels:
        facts += await _behind(here, channel, accumulates=channel in accumulate)
    stand = await facts_stand(step, attempt, facts)
    attempt.guards.append((tuple(channels), stand))
    return stand


async def _behind(here: CurrentTask, channel: str, *, accumulates: bool) -> list[Read]:
    """The facts that a channel's value rests on, in the task's namespace and in those around it that it came from."""
    inner = here.place.ns.split("|") if here.place.ns else []
    facts: list[Read] = []
    found = False
    for depth in range(len(inner), -1, -1):
        ns = "|".join(inner[:depth])
        if ns not in here.place.checkpoint_map:
            continue
        behind, given = await _in_namespace(here, ns, channel, accumulates=accumulates)
        facts += behind or ()
        if not given:
            return facts
        found = found or behind is not None
    if accumulates and found:
        return facts  # what the input has brought rests on nothing
    raise ProvenanceMissing(
        f"It is not known what {channel!r} of thread {here.run.thread_id!r} rests on: it was written by no task "
        f"(but given as input). Run the node that writes it once more, where the guarded graph is loaded."
    )


async def _in_namespace(
    here: CurrentTask, ns: str, channel: str, *, accumulates: bool
) -> tuple[list[Read] | None, bool]:
    """The facts behind what tasks of this namespace wrote to the channel, and whether it came from around it, too.

    `None` if no task wrote it.

    Raises:
        ProvenanceMissing: a task has, and what it rests on was not kept.
    """
    provenance = here.run.provenance
    entries = await provenance.load()
    authors = _authors(entries, ns, channel, accumulates=accumulates)
    if not authors or accumulates:  # of an earlier run of the thread, perhaps
        entries = _joined(await provenance.history(whole=True), entries)
        authors = _authors(entries, ns, channel, accumulates=accumulates)
    given = not authors or any(author.is_input for author in authors)
    authors = [author for author in authors if not author.is_input]
    ids = [author.task.id for author in authors]
    behind = [*authors, *(entry for entry in entries if entry.ran_in(ids) and not entry.is_input)]
    if any(entry.effect is None and entry in authors for entry in behind):
        raise ProvenanceMissing(
            f"What {channel!r} of thread {here.run.thread_id!r} rests on is not known: it was written by an update of "
            f"the state, or by a task that ran in a process without this guard. Run the node that writes it once more, "
            f"where the guarded graph is loaded."
        )
    return [read for entry in behind for read in entry.reads] if authors else None, given


def _authors(entries: Sequence[Entry], ns: str, channel: str, *, accumulates: bool) -> list[Entry]:
    """Who wrote the channel: all that ever did, or all tasks of the latest super-step that did."""
    authors = [entry for entry in entries if entry.ns == ns and channel in entry.channels]
    if accumulates or not authors:
        return authors
    return [entry for entry in authors if entry.checkpoint_id == authors[-1].checkpoint_id]


def _joined(stored: Sequence[Entry], known: Sequence[Entry]) -> list[Entry]:
    """All entries; what this run knows itself is newer."""
    own = {(entry.ns, entry.checkpoint_id, entry.task.id) for entry in known}
    return [*(e for e in stored if (e.ns, e.checkpoint_id, e.task.id) not in own), *known]
