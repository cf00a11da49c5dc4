"""The errors of the whole project, from one base.

This module is the floor of the layer diagram: it imports nothing of ours, so that libraries which do not know each
other (`checkpointer`, `providers`, `prompts`) can still raise errors that one `except RuntimeFault` catches.

Every message says what happened, to what, and what to do. None carries a secret: connection strings are shown without
their password, SQL without its arguments. Nothing in this project decides on message text; decide on the class, or on
`sqlstate` where an error carries one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "RuntimeFault",
    "ConfigError",
    "DatabaseUnavailable",
    "PoolExhausted",
    "SchemaMissing",
    "LoopUnavailable",
    "QueueMismatch",
    "ExtensionMissing",
    "GraphNotFound",
    "GraphInvalid",
    "InputInvalid",
    "ThreadNotGiven",
    "ThreadNotFound",
    "ThreadMismatch",
    "ThreadFinished",
    "ThreadBusy",
    "GraphChanged",
    "RollbackRefused",
    "StaleRun",
    "NoActiveStep",
    "StatementRefused",
    "ReadRefused",
    "ReadFailed",
    "ValueNotSerializable",
    "ValueIncomplete",
    "ValueNotAuthentic",
    "IllegalTransition",
    "StepConflict",
    "PlanInvalidated",
    "ProvenanceMissing",
    "ConflictExhausted",
    "StagedWriteFailed",
    "EffectRepeated",
    "EffectNotFound",
    "UpdateInvalid",
    "WriteRefused",
    "SwapRefused",
    "SharedUnknown",
    "SharedOutdated",
    "ProviderUnavailable",
    "ProviderExhausted",
    "ProviderRejected",
    "BudgetExceeded",
    "PromptNotFound",
    "PromptInvalid",
    "PromptConflict",
    "MemoryInvalid",
    "MemoryContended",
    "AggregateNotFound",
    "AggregateOutdated",
    "EventSourceFailed",
    "CollectionNotFound",
    "CollectionMismatch",
    "VectorInvalid",
    "DocumentInvalid",
]


class RuntimeFault(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(RuntimeFault):
    """A setting is missing, malformed or contradicts another one."""


class ThreadNotGiven(ConfigError, ValueError):
    """A run names no thread. LangGraph raises a `ValueError` for it."""


class DatabaseUnavailable(RuntimeFault):
    """The database cannot be reached, is too old, or refuses us rights."""


class PoolExhausted(DatabaseUnavailable):
    """All connections of the pool were in use, and for a long time none came back."""


class SchemaMissing(DatabaseUnavailable):
    """The tables of the checkpointer are not there, or are of an older version."""


class QueueMismatch(DatabaseUnavailable):
    """The tables of the queue are missing, or are not those that the installed PgQueuer works with."""


class LoopUnavailable(RuntimeFault):
    """The event loop that has to do the work does not: it is closed, stopped, stuck, or a parent process's."""


class ExtensionMissing(DatabaseUnavailable):
    """The database has no pgvector, which `Step.nearest` and tables of vectors need. Everything else works without."""


class GraphNotFound(RuntimeFault):
    """No module, attribute or `langgraph.json` entry of that name."""


class GraphInvalid(RuntimeFault):
    """The name exists but is not a graph, or the graph does not compile."""


class InputInvalid(RuntimeFault):
    """The input is not JSON, or does not fit the graph's state."""


class ThreadNotFound(RuntimeFault):
    """No thread, or no checkpoint of that thread, under the given id."""


class ThreadMismatch(RuntimeFault):
    """The thread belongs to another graph."""


class ThreadFinished(RuntimeFault):
    """There is nothing to resume: the thread's last run completed."""


class ThreadBusy(RuntimeFault):
    """Another run is working on the thread right now."""


class GraphChanged(RuntimeFault):
    """A thread has left work unfinished that this version of its graph has no place for. The thread is as it was.

    Attributes:
        had: the version that the thread `thread_id` was run with; `has` is that of the graph as it is now.
        missing: what it needs and the graph lacks, in words.
    """

    def __init__(self, message: str, *, thread_id: str, had: str, has: str, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.thread_id, self.had, self.has, self.missing = thread_id, had, has, tuple(missing)


class RollbackRefused(RuntimeFault):
    """What an input has done to a thread cannot be taken back: it has committed domain writes. Nothing was changed."""


class StaleRun(RuntimeFault):
    """The run was fenced: a later run owns the thread, or its head moved. Nothing of this run was committed."""


class NoActiveStep(RuntimeFault):
    """`current_step()` was called where no super-step is running."""


class StatementRefused(RuntimeFault):
    """A statement cannot be part of a super-step's transaction: it would end it or move it."""


class ReadRefused(StatementRefused):
    """A statement given to a read method is not a read."""


class ReadFailed(RuntimeFault):
    """The database rejected a read. The step's snapshot and the other tasks are untouched.

    Attributes:
        sql: the statement, without its arguments.
        sqlstate: the five-character SQLSTATE, or `None` if the driver gave none.
    """

    def __init__(self, message: str, *, sql: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sql = sql
        self.sqlstate = sqlstate


class ValueNotSerializable(RuntimeFault):
    """A state value cannot be written as msgpack. Nothing was stored."""


class ValueNotAuthentic(RuntimeFault):
    """A stored value was not written for its place by a saver with this key: it is not used."""


class ValueIncomplete(RuntimeFault):
    """A stored value builds on another one that is not there any more. Nothing was changed."""


class IllegalTransition(RuntimeFault):
    """Something was told that cannot happen in its state. A defect of this project; nothing was stored."""


class StepConflict(RuntimeFault):
    """The facts some tasks read have changed, so the super-step did not commit.

    Nothing of the super-step is in the database except the results of the tasks whose facts still hold. Running the
    thread again with input `None` runs only the tasks named here. `transactional(graph)` does that by itself.

    Attributes:
        tasks: names of the nodes whose facts changed.
        attempts: how often this super-step has been tried, this attempt included.
    """

    def __init__(self, message: str, *, tasks: Sequence[str] = (), attempts: int = 1) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)
        self.attempts = attempts


class PlanInvalidated(RuntimeFault):
    """What an earlier super-step of the thread was decided on has moved, so this one must not be carried out.

    Nothing of the super-step was written. The thread can be resumed: what is checked then is what is there then.

    Attributes:
        tasks: names of the nodes whose facts changed, or of the one that was guarded.
    """

    def __init__(self, message: str, *, tasks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)


class ProvenanceMissing(RuntimeFault):
    """It is not known which facts a guarded channel rests on. Nothing of the super-step was written."""


class ConflictExhausted(StepConflict):
    """A super-step kept conflicting until its bound of attempts. The thread can be resumed later."""


class StagedWriteFailed(RuntimeFault):
    """The database rejected a staged write. The super-step was rolled back; resuming runs that task again.

    Attributes:
        task: name of the node that staged the write.
        sql: the statement, without its arguments.
        sqlstate: the five-character SQLSTATE, or `None` if the driver gave none.
    """

    def __init__(self, message: str, *, task: str, sql: str, sqlstate: str | None) -> None:
        super().__init__(message)
        self.task = task
        self.sql = sql
        self.sqlstate = sqlstate


class EffectRepeated(RuntimeFault):
    """A thread that was set back has come to an effect that was sent already, and nobody has said what is to happen.

    Nothing of the super-step was committed; the results of its tasks are kept. Run the thread again with input `None`
    and `effects="keep"` (the one that was sent counts, nothing is sent) or `effects="again"` (it is sent once more).

    Attributes:
        effect: the identity of the one that was sent.
        topic: its topic.
        task: name of the node that emits it again.
    """

    def __init__(self, message: str, *, effect: str, topic: str, task: str) -> None:
        super().__init__(message)
        self.effect = effect
        self.topic = topic
        self.task = task


class EffectNotFound(RuntimeFault):
    """There is no effect of that identity, or it is in a state in which that cannot be done with it."""


class ChildFailed(RuntimeFault):
    """A child run has failed, or its thread was deleted. What the parent has committed is not affected.

    Attributes:
        thread: of the child.
        reason: what it has failed with.
    """

    def __init__(self, message: str, *, thread: str, reason: str) -> None:
        super().__init__(message)
        self.thread = thread
        self.reason = reason


class QuestionExpired(RuntimeFault):
    """A question was not answered in time, and its node has named nothing that it is answered with otherwise."""


class AnswerRefused(RuntimeFault):
    """An answer was given to a question that is not open, or does not say to which of several. It counts for none.

    Attributes:
        thread: of the question.
        interrupt: the id of the question, if the answer names one.
    """

    def __init__(self, message: str, *, thread: str, interrupt: str | None) -> None:
        super().__init__(message)
        self.thread = thread
        self.interrupt = interrupt


class UpdateInvalid(RuntimeFault):
    """A write that its reducer cannot merge, or that the model of a shared value refuses. Nothing of it was stored.

    Attributes:
        place: what it was written to, such as "channel 'plan'".
        reducer: the reducer, such as "append(key='id')".
    """

    def __init__(self, message: str, *, place: str, reducer: str) -> None:
        super().__init__(message)
        self.place = place
        self.reducer = reducer


class WriteRefused(RuntimeFault):
    """A reducer that chooses none of several writes was given some. Nothing of the super-step was stored.

    Attributes:
        place: what was written to, such as "channel 'plan'".
        reducer: the reducer.
    """

    def __init__(self, message: str, *, place: str, reducer: str) -> None:
        super().__init__(message)
        self.place = place
        self.reducer = reducer


class SwapRefused(WriteRefused):
    """A write that expected another value than there is, to a `compare_and_set(otherwise="refuse")`."""


class SharedUnknown(ConfigError):
    """No shared value of that name is declared in this process."""


class SharedOutdated(RuntimeFault):
    """A stored shared value does not fit its declaration: its model has changed since. Nothing was changed.

    Attributes:
        name: of the shared value.
        key: its key.
    """

    def __init__(self, message: str, *, name: str, key: str) -> None:
        super().__init__(message)
        self.name = name
        self.key = key


class ProviderUnavailable(RuntimeFault):
    """A model route cannot be served: its package or its key variable is missing."""


class ProviderExhausted(RuntimeFault, ExceptionGroup[Exception]):
    """No deployment of a route, nor of its fallbacks, answered. An exception group of every attempt's error.

    Attributes:
        route: the route that was asked.
        tried: what was tried, in order: `deployment` and `why` it was left, as in the call's record.
    """

    route: str
    tried: Sequence[Mapping[str, Any]]

    def __new__(
        cls, message: str, errors: Sequence[Exception], *, route: str = "", tried: Sequence[Mapping[str, Any]] = ()
    ) -> Self:
        """`errors` must not be empty: something was tried, or the reason why nothing could be is an error itself."""
        self = super().__new__(cls, message, errors)
        self.route, self.tried = route, tuple(tried)
        return self

    def __init__(self, message: str, errors: Sequence[Exception], **_: Any) -> None:
        super().__init__(message, errors)

    def derive(self, errors: Sequence[Exception], /) -> Self:  # type: ignore[override]  # a part of the same failure
        """A part of this group, for `except*` and `split`."""
        return type(self)(self.message, errors, route=self.route, tried=self.tried)

    def __str__(self) -> str:
        return self.message  # without "(2 sub-exceptions)": the message names them


class ProviderRejected(ProviderExhausted):
    """A provider refused the request itself (malformed, or the key is wrong), so no other deployment was asked."""


class BudgetExceeded(RuntimeFault):
    """A call was not made because a token or money budget is used up. The thread can be resumed with a larger one.

    Attributes:
        scope: "run", "thread" or "route".
    """

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class PromptNotFound(RuntimeFault):
    """No prompt, version or label of that name."""


class PromptInvalid(RuntimeFault):
    """A prompt's file or template is wrong, or the variables given do not fit it. Raised before any model is called."""


class PromptConflict(RuntimeFault):
    """A rival transaction moved the label meanwhile. Nothing was changed."""


class MemoryInvalid(RuntimeFault, ValueError):
    """What was given to the memory cannot be stored or looked for. Nothing was stored. LangGraph: a `ValueError`."""


class MemoryContended(RuntimeFault):
    """Other transactions kept changing the same items, and nothing was stored. It can be tried again."""


class AggregateNotFound(RuntimeFault):
    """No aggregate of that name is declared, or it does not compute what was asked for."""


class AggregateOutdated(RuntimeFault):
    """An aggregate was declared otherwise than it was built, or is being rebuilt: it holds what is not meant."""


class EventSourceFailed(RuntimeFault):
    """A source of events cannot be read, or not any further. What was ingested before stays."""


class CollectionNotFound(ReadFailed):
    """There is no collection of that name, nor a table. Or it was dropped meanwhile."""

    def __init__(self, message: str, *, sql: str = "", sqlstate: str | None = "42P01") -> None:
        super().__init__(message, sql=sql, sqlstate=sqlstate)


class CollectionMismatch(RuntimeFault):
    """A collection of that name is there, and is another one: of other dimensions, another precision or schema."""


class VectorInvalid(RuntimeFault):
    """A vector cannot be stored or searched for: missing, of other dimensions, not finite, or without a direction."""


class DocumentInvalid(RuntimeFault):
    """A document, its metadata or a filter does not fit the collection, or a file of documents cannot be read."""
