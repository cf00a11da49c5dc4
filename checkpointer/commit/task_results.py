"""Taking in what LangGraph says a task produced, and tying it to the facts it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from superstep.checkpointer.children.waiting import awaited, awaits_children_only
from superstep.checkpointer.commit.asking import questions_of, root_of
from superstep.checkpointer.langgraph.codec import WriteRows, dump, effect_at, write_rows
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.keys import NULL_TASK, is_output, unmark
from superstep.checkpointer.langgraph.questions import asked_in
from superstep.checkpointer.step.drift import Drift
from superstep.checkpointer.threads.result import Result
from superstep.checkpointer.threads.tracing import handed_in
from superstep.runtime.faults import ConfigError, DatabaseUnavailable, RuntimeFault, StaleRun
from superstep.runtime.masking import without_password

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.ports import Caller
    from superstep.checkpointer.step.read_set import Effect
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.run import Run

__all__ = ["dumped_effect", "note_callers", "save_result"]


async def save_result(
    run: Run,
    serde: SerializerProtocol,
    at: tuple[str, str],
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
) -> None:
    """Store a task's result, durably when it returns. See `TransactionalSaver.aput_writes`.

    Args:
        run: who ran the task.
        serde: knows the types of the graph that the task belongs to, which may be a subgraph.
        at: namespace and checkpoint of its super-step.
        writes: as LangGraph hands them over, our mark among them.
        task_id: LangGraph's id of the task.
        task_path: LangGraph's path of the task.
    """
    if run.writes.is_withdrawn(*at, task_id):
        return
    mark, clean = unmark(writes)
    channels = {channel for channel, _ in clean}
    where = Where(run.thread_id, *at)
    run.handed_in(task_id)
    took_another = False
    if RESUME in channels and run.token is not None and task_id != NULL_TASK:
        took_another = await _take_answer(run, at, task_id, task_path, clean)
    asked = asked_in(clean, INTERRUPT)
    run.name_questions(at[0], task_id, [each for each in asked if awaited(each) is None])
    finished = is_output(channels)
    if run.options.trace is not None:
        handed_in(run.options.trace, at, task_id, clean, finished=finished)
    if finished:
        run.provenance.handed_in(at, task_id, task_path, channels)
    took_another = took_another and not (finished and run.options.accept_stale_answers)
    failure: object = next((value for channel, value in clean if channel == ERROR), None)
    clean = _without_secrets(clean) if ERROR in channels else clean
    try:
        effect = await _effect(run, at, task_id, task_path, mark, channels, finished=finished)
        # Who waits for children has shown nobody what it has read: it reads again when it goes on.
        rests = effect is not None and not effect.empty and not awaits_children_only(asked)
        stored = dumped_effect(serde, where, effect) if effect is not None and rests else None
    except RuntimeFault as e:
        run.poison = e
        raise
    rows = write_rows(serde, clean, task_id, task_path, where)
    result = Result(task_id, rows, stored, finished, _is_its_own(failure), took_another)
    if asked:
        result.asks, result.root = questions_of(run, serde, at, task_id, asked, clean), root_of(run, at)
    await run.writes.save(*at, result)


async def _take_answer(
    run: Run, at: tuple[str, str], task_id: str, path: str, writes: Sequence[tuple[str, Any]]
) -> bool:
    """The task has taken a human's answer: whether it is one more than when the run was entered.

    Raises:
        Drift: the answer was not for this task.
    """
    namespace = run.namespaces[at[0]]
    answers = max((len(value) for channel, value in writes if channel == RESUME and isinstance(value, list)), default=0)
    took_another = namespace.has_taken_another(task_id, answers)
    if took_another:
        run.spend_answers(at[0], [task_id])
    # One that waits for a child, or asks once more, hands in again what it was answered before.
    if took_another and not namespace.may_take_answers(at[1], task_id, path):
        await _refuse_answer(run, at, task_id)
    run.step(*at).answer(task_id)
    return took_another


def _is_its_own(failure: object) -> bool:
    """Whether a task failed by itself, so that what models answered it was part of that.

    Not so if the database was away, or another run has the thread: whoever goes on has a use for answers that are paid.
    """
    seen: set[int] = set()
    error = failure
    while isinstance(error, BaseException) and id(error) not in seen:
        if isinstance(error, DatabaseUnavailable | StaleRun):
            return False
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return isinstance(failure, Exception)


def _without_secrets(writes: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The writes, with errors that quote the password of a connection string told without it."""
    kept = []
    for channel, value in writes:
        if channel == ERROR and isinstance(value, BaseException):
            shown = repr(value)
            masked = without_password(shown)
            kept.append((channel, RuntimeError(masked) if masked != shown else value))
        else:
            kept.append((channel, value))
    return kept


async def _refuse_answer(run: Run, at: tuple[str, str], task_id: str) -> None:
    """A task has taken an answer that was given to another question: it must ask its own.

    LangGraph gives an answer to the first task that asks, be it a sibling that has come to ask on new facts, a later
    question of the same subgraph, or the same task whose question was withdrawn meanwhile. What counts is whether the
    question was open when the run was entered with the answer.

    Raises:
        Drift: the answer is taken back, and so is what the task made of it.
    """
    step = run.step(*at)
    task = step.asks_anew(task_id)
    await run.database.autocommit(lambda conn: step.withdraw_answer(task, conn))
    raise Drift(
        f"In thread {run.thread_id!r}, {task.node!r} took an answer that was given to another question, or to its own "
        f"on facts that have moved. The answer does not count. Run the thread again with input None, and the question "
        f"is asked (transactional(graph) does that).",
        tasks=[task.node],
        attempts=step.costs.attempts,
    )


async def _effect(
    run: Run,
    at: tuple[str, str],
    task_id: str,
    path: str,
    mark: str | None,
    channels: Set[str],
    *,
    finished: bool,
) -> Effect | None:
    """The reads and staged writes that belong to these very writes, of which `channels` are the channels."""
    step = run.steps.get(at)
    if finished and mark is not None and (step is None or not step.knows(task_id, mark)):
        raise _cached(path)
    effect = None if step is None else _effect_of(step, task_id, path, mark, channels, finished=finished)
    if finished and (strays := run.strays(task_id)):
        step = run.step(*at)
        for stray in strays:
            effect = step.adopt(task_id, path, stray)
        for stray in strays:
            await stray.end()
        await step.snapshot.release()  # what was adopted is of another snapshot: the commit has to read it all again
    return effect


async def note_callers(run: Run, conn: Connection, noted: Sequence[tuple[Caller, Effect]]) -> None:
    """Store what a checkpoint of a subgraph rests on, for runs in which its callers start anew.

    Args:
        run: of the subgraph.
        conn: in the transaction that commits the checkpoint.
        noted: the callers, with what they have read.
    """
    for caller, effect in noted:
        at = caller.step.ns, caller.step.checkpoint_id
        dumped = dumped_effect(run.serde, Where(run.thread_id, *at), effect)
        result = Result(effect.task_id, WriteRows.none(), dumped, finished=False, forget_memo=False)
        await run.writes.store(conn, *at, [result])


def dumped_effect(serde: SerializerProtocol, where: Where, effect: Effect) -> tuple[str, bytes]:
    """Kind and bytes of an effect, as it is stored at this place."""
    serde = effect_at(serde, where, effect.task_id)
    return dump(serde, effect.dump(), f"an argument of a read or staged write of node {effect.node!r}")


def _cached(path: str) -> ConfigError:
    return ConfigError(
        f"A result of task {path!r} came from the graph's cache (CachePolicy), but it rests on facts that were "
        f"read, or writes that were staged, when it was made. Give nodes that use current_step() no cache policy, "
        f"or wrap the graph in transactional(), which keeps such results out of the cache."
    )


def _effect_of(
    step: SuperStep, task_id: str, path: str, mark: str | None, channels: Set[str], *, finished: bool
) -> Effect | None:
    """Tell the super-step how its task ended."""
    effect: Effect | None = None
    if finished:
        effect = step.finish(task_id, mark, path)
    elif INTERRUPT in channels:
        effect = step.ask(task_id, path)
    elif ERROR in channels:
        step.fail(task_id)
    return effect
