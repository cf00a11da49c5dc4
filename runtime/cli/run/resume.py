"""What a resume continues with: an answer, nothing, or a reason why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.run.outcome import Outcome
from superstep.runtime.cli.threads import LEAST_PREFIX, checkpoint_state, recorded_graph
from superstep.runtime.faults import GraphNotFound, InputInvalid, ThreadFinished, ThreadMismatch
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer import ThreadSummary, TransactionalSaver
    from superstep.runtime.cli.run.execute import Turn
    from superstep.runtime.loading.factories import FactoryCall
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["WAITING", "load_graph_of", "next_payload", "waiting_outcome"]

WAITING: Any = object()  # the thread waits for an answer, and none was given


async def load_graph_of(
    saver: TransactionalSaver, summary: ThreadSummary, spec: str | None, call: FactoryCall
) -> LoadedGraph:
    """Load the graph of a thread.

    Args:
        saver: Only read from.
        summary: Of the thread.
        spec: Where its graph is now, or `None` for where it was.
        call: What the graph is made for, if a factory makes it.

    Raises:
        ThreadMismatch: The graph named is another one: it lacks nodes that the thread has run.
        GraphNotFound: The graph is not where it was.
    """
    from superstep.runtime.loading.loader import load_graph

    thread = summary.thread_id
    try:
        loaded = await load_graph(spec or recorded_graph(summary), call=call)
    except GraphNotFound as error:
        if spec is not None:
            raise
        raise GraphNotFound(f"{error} If the graph has moved, name it: --graph GRAPH") from error
    if spec is not None and loaded.name != summary.graph:
        ran = {node for step in await saver.asteps(thread) if not step.checkpoint_ns for node in step.nodes}
        unknown = sorted(ran - set(loaded.compile().nodes))
        if unknown:
            raise ThreadMismatch(
                f"The thread {thread} belongs to the graph {summary.graph} and has run {', '.join(unknown)}, which "
                f"{loaded.name} does not have. Leave out --graph, or name the graph it moved to."
            )
    return loaded


async def next_payload(saver: TransactionalSaver, turn: Turn, answer: tuple[Any] | None) -> Any:
    """Decide what the run gets: `Command(resume=…)`, `None` to continue, or `WAITING` if it needs an answer.

    Args:
        saver: Only read from.
        turn: Names the thread, its graph and the checkpoint; its payload is not looked at.
        answer: The parsed `--value` in a tuple, or `None` if there was none; JSON `null` is an answer too.

    Raises:
        ThreadFinished: Nothing is left to run.
        InputInvalid: An answer without a question, or one that does not say which of several questions it is for.
    """
    from langgraph.types import Command

    from superstep.checkpointer import awaited_child, graph_version

    state = await checkpoint_state(saver, turn.loaded, turn.thread, turn.checkpoint)
    # Not `next`, which leaves out tasks with a saved result: between that and the commit a process may have died.
    if not state.tasks and turn.checkpoint is None and await saver.ais_parked(turn.thread):
        return None  # what it stands before is not in the graph any more: the run lifts it, or says what is missing
    if not state.tasks:
        where = f"checkpoint {turn.checkpoint}" if turn.checkpoint else f"thread {turn.thread}"
        raise ThreadFinished(f"The {where} has finished: nothing is left to run after it.")
    asked = [each for each in state.interrupts if awaited_child(each) is None]
    if not asked and answer is not None:
        raise InputInvalid(
            f"The thread {turn.thread} waits for {'a child run' if state.interrupts else 'no answer'}. Continue it "
            f"without --value: runtime resume {shell_word(turn.thread)}"
        )
    if not asked or (answer is None and len(asked) < len(state.interrupts)):
        return None  # where it waits for a child, the node looks whether that has ended
    if answer is None:
        # A fork runs the node again, so that it asks again; the head already has its question, unless it is of another
        # version of the graph: then the run lifts it and asks anew, or says why it does not fit.
        graph = turn.loaded.compile()
        version = graph_version(graph, turn.loaded.version or getattr(graph, "version", None))
        return WAITING if turn.checkpoint is None and await saver.afits(turn.thread, version) else None
    return Command(resume=_addressed(answer[0], asked, alone=len(asked) == len(state.interrupts)))


def _addressed(answer: Any, interrupts: Sequence[Any], *, alone: bool) -> Any:
    """Check that each of several questions gets the answer meant for it. `alone`: the thread waits for nothing else."""
    ids = [interrupt.id for interrupt in interrupts]
    if len(ids) > 1:
        if isinstance(answer, dict) and answer and (addressed := _by_whole_ids(answer, ids)):
            return addressed
        raise InputInvalid(
            f"The thread waits at {len(ids)} interrupts. Give an object with an answer by id, for all or some of "
            f"them: --value '{{\"{ids[0]}\": …}}'. The ids are {', '.join(ids)}; their beginnings will do."
        )
    # LangGraph takes a bare `None` for no answer at all.
    return {ids[0]: answer} if answer is None or not alone else answer


def _by_whole_ids(answer: dict[str, Any], ids: Sequence[str]) -> dict[str, Any] | None:
    """Answers by the whole ids of their questions; `None` if a key is not the beginning of exactly one id."""
    found: dict[str, Any] = {}
    for key, value in answer.items():
        meant = [each for each in ids if each.startswith(key)] if len(key) >= LEAST_PREFIX else []
        if len(meant) != 1 or meant[0] in found:
            return None
        found[meant[0]] = value
    return found


async def waiting_outcome(saver: TransactionalSaver, turn: Turn, settings: CommandSettings) -> Outcome:
    """Report a thread that waits for an answer, without running it."""
    from superstep.runtime.cli.run.execute import wrapped

    report = (await wrapped(turn, saver, settings).areport(turn.config)).to_dict()
    return Outcome(report | {"status": "interrupted"})
