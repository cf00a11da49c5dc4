"""Names that LangGraph uses inside itself and that we depend on. Pure.

`tests/checkpointer/langgraph/test_keys.py` compares each with the installed LangGraph. What the
checkpoint library exports (`ERROR`, `RESUME`, `WRITES_IDX_MAP`) is imported where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Set
    from uuid import UUID

    from superstep.checkpointer.langgraph.graph_version import GraphVersion
    from superstep.runtime.telemetry.runs import RunTrace

__all__ = [
    "BRANCH",
    "CACHE",
    "CACHED_MARK",
    "CHECKPOINTER",
    "CHECKPOINT_MAP",
    "DELTA_COUNTERS",
    "DURABILITY",
    "ERROR_HANDLER",
    "ERROR_SOURCE_NODE",
    "FORMAT_OF_TASK_IDS",
    "INTERRUPT",
    "JOIN",
    "NO_WRITES",
    "NULL_TASK",
    "PUSH",
    "READ",
    "RESUMING",
    "RUNTIME",
    "SEND",
    "SENDS",
    "STEP_TAG",
    "TASK_ID",
    "Delivery",
    "EarlierAttempt",
    "RunOptions",
    "by_namespace",
    "from_latest",
    "is_marked",
    "is_private_channel",
    "is_output",
    "run_key",
    "unmark",
]

# Keys of `configurable`.
RUNTIME: Final = "__pregel_runtime"
CHECKPOINTER: Final = "__pregel_checkpointer"
TASK_ID: Final = "__pregel_task_id"
SEND: Final = "__pregel_send"
READ: Final = "__pregel_read"
CACHE: Final = "__pregel_cache"
DURABILITY: Final = "__pregel_durability"
CHECKPOINT_MAP: Final = "checkpoint_map"
RESUMING: Final = "__pregel_resuming"  # of a subgraph: go on from the latest checkpoint, whatever the input

# Channels.
SENDS: Final = "__pregel_tasks"
NO_WRITES: Final = "__no_writes__"  # for "finished without output"; its values are ignored
ERROR_SOURCE_NODE: Final = "__error_source_node__"
BRANCH: Final = "branch:"  # prefix of the channels that edges write to
JOIN: Final = "join:"  # the same for edges of several nodes together

# Of a checkpoint's metadata: its delta channels, with the supersteps since each was stored as a whole.
DELTA_COUNTERS: Final = "counters_since_delta_snapshot"

# The first format of checkpoints (`v`) with today's names of the channels that trigger tasks. The ids of tasks are made
# of them, so a task of an older checkpoint, which LangGraph migrates when it loads it, has another id than was saved.
FORMAT_OF_TASK_IDS: Final = 3

# In streamed updates: marks results that were kept from an earlier attempt.
CACHED_MARK: Final = "__metadata__"

# Prefix of the tag that callbacks of a super-step's tasks carry; the number of the super-step follows.
STEP_TAG: Final = "graph:step:"

# Parts of task paths and namespaces, and the task that a human's answer is written for before its own is known.
PUSH: Final = "__pregel_push"
ERROR_HANDLER: Final = "node_error_handler"
NULL_TASK: Final = "00000000-0000-0000-0000-000000000000"

_ABOUT_CONTROL = frozenset({ERROR, INTERRUPT, RESUME, ERROR_SOURCE_NODE})
_NO_OUTPUT = frozenset({*WRITES_IDX_MAP, ERROR_SOURCE_NODE})
_UNFINISHED = frozenset({ERROR, INTERRUPT})


class EarlierAttempt(NamedTuple):
    """An attempt that ended in a conflict: its fencing token, and a name for the claim of the one that goes on."""

    token: int
    claim_id: UUID


class Delivery(NamedTuple):
    """A queued run, as it was given to a worker.

    Attributes:
        run_id: of the run.
        delivery: how often it was given to a worker.
        token: of one that carries an answer: the fencing token that its thread had when the question was looked at.
        question: the number of the question.
    """

    run_id: UUID
    delivery: int
    token: int | None = None
    question: int | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the caller of a run tells the saver, see `control.AttemptControl`.

    Attributes:
        graph: name of the graph, kept with the thread; a thread of another graph is refused.
        accept_stale_answers: an answer to an interrupt counts even if the facts its question showed have moved.
        tells_questions_apart: a question that is asked again comes under another name (`langgraph.questions`). Whoever
            sets this translates the names in answers.
        take_over: take the thread from a run of another process that is under way.
        tells_its_end: the caller says when the run is over (`TransactionalSaver.afinish`), so that until then it can be
            said that it runs.
        after: the attempt before, of the same call. The thread is taken only from that one.
        isolated_as_flow: every commit validates what the run has read since it began, not only its own super-step.
        trial_of: the thread that is decided again: what the run stages is withheld, and models answer as they did then.
        effects: what becomes of an effect that was sent already, when the thread was set back and comes to it again:
            "again", "keep", or `None`: it is refused.
        delivery: the queued run that this is. The thread is not taken for one that was given to another worker since.
        version: of the graph, kept with the thread. What a thread has left unfinished is gone on with only by a graph
            that has a place for it.
        resumes: the run goes on with what the thread has left, and brings no input of its own.
        trace: the spans of the run, the same for all attempts; `None` while telemetry is off.
    """

    graph: str | None = None
    accept_stale_answers: bool = False
    tells_questions_apart: bool = False
    take_over: bool = True
    tells_its_end: bool = False
    after: EarlierAttempt | None = None
    isolated_as_flow: bool = False
    trial_of: str | None = None
    effects: str | None = None
    delivery: Delivery | None = None
    version: GraphVersion | None = None
    resumes: bool = True
    trace: RunTrace | None = None


def is_private_channel(name: str) -> bool:
    """Whether a channel is LangGraph's own, no part of the state that a graph declares."""
    return name.startswith(("__", BRANCH))


def run_key(conf: Mapping[str, Any]) -> object | None:
    """The object that identifies a run, from the `configurable` of anything that belongs to it; `None` outside of runs.

    LangGraph makes one run control a run and hands it to subgraphs too.
    """
    return getattr(conf.get(RUNTIME), "control", None)


def by_namespace(ids: Mapping[Any, str]) -> dict[str, str]:
    """A map of checkpoints (`checkpoint_map`, `parents`) in which the outermost graph is "", however it was named."""
    return {ns or "": checkpoint_id for ns, checkpoint_id in ids.items()}


def is_output(channels: Set[str]) -> bool:
    """Whether writes to these channels say that the task finished: one is not about control."""
    return not channels <= _NO_OUTPUT and channels.isdisjoint(_UNFINISHED)


# LangGraph clears a task's writes when it starts the task anew, and hands them to the saver when the task is done. A
# mark among them, a text in a channel whose values it ignores, says which execution it was that finished: the only
# reliable way to tell.


def is_marked(writes: Iterable[tuple[str, Any]]) -> bool:
    """Whether a task's writes carry our mark: the task used its step, so its result may rest on facts."""
    return any(channel == NO_WRITES and isinstance(value, str) for channel, value in writes)


def unmark(writes: Collection[tuple[str, Any]]) -> tuple[str | None, list[tuple[str, Any]]]:
    """Take our mark out of a task's writes; of a task that failed keep nothing but the failure.

    Returns:
        The mark, or `None`; the writes as LangGraph would have made them without it.
    """
    channels = {channel for channel, _ in writes}
    failed = ERROR in channels
    if not failed and NO_WRITES not in channels:
        return None, list(writes)
    mark: str | None = None
    clean: list[tuple[str, Any]] = []
    for channel, value in writes:
        if channel == NO_WRITES and isinstance(value, str):
            mark = value
        elif not failed or channel in _ABOUT_CONTROL:
            clean.append((channel, value))
    if mark is not None and not failed and not any(channel not in _ABOUT_CONTROL for channel, _ in clean):
        clean.append((NO_WRITES, None))
    return mark, clean


def from_latest(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a call that goes on from what its thread has stored last, whatever checkpoint it was given."""
    place = {
        key: value for key, value in config["configurable"].items() if key not in ("checkpoint_id", CHECKPOINT_MAP)
    }
    return {**config, "configurable": place}
