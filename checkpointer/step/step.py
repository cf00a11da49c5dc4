"""`Step`: what a node, a tool, or anything they await uses to read and write inside its super-step."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from langgraph.config import get_config

from superstep.checkpointer.database.sql import quote_identifier
from superstep.checkpointer.step.read_set import Staged, ends_transaction
from superstep.runtime.faults import ConfigError, NoActiveStep, StaleRun, StatementRefused

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    import asyncpg

    from superstep.checkpointer.database.database import Engine
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt
    from superstep.checkpointer.threads.run import Run

__all__ = ["Step", "SyncStep", "current_step", "is_marked", "locate", "NO_WRITES"]

T = TypeVar("T")

_HANDLER = "node_error_handler"
NO_WRITES = "__no_writes__"  # LangGraph's channel for "finished without output"; its values are ignored


class Step:
    """One task's view of its super-step.

    Reads of all tasks of the super-step see one database state. Staged writes are invisible to everyone until the
    super-step commits, and leave nothing behind if the task fails, is interrupted or runs again.

    Re-run contract: a node may run again from its start after a conflict, a crash or an interrupt. What it does
    through its `Step` and through chat models is then consistent by itself; any other effect (a mail sent, a file
    written) happens again.
    """

    def __init__(self, step: SuperStep, attempt: Attempt) -> None:
        self._step = step
        self._attempt = attempt

    @property
    def facts_changed(self) -> bool:
        """Whether this task asked a human before, about facts that have moved since: it is about to ask again."""
        return self._attempt.task_id in self._step.facts_changed

    @property
    def thread_id(self) -> str:
        """The thread that the task runs for."""
        return self._step.run.thread_id

    @property
    def schema(self) -> str:
        """The Postgres schema of the runtime's own tables."""
        return self._engine.schema

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a read, as `asyncpg.Connection.fetch`.

        Raises:
            ReadRefused: the statement writes.
            ReadFailed: the database rejected it.
            StepConflict: what this task read before has changed. Do not catch it: it makes the task run again.
        """
        return await self._engine.on_loop(self._step.read(self._attempt, sql, args))

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """The first row of a read, or `None`. The whole result counts as read."""
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: Any, column: int = 0) -> Any:
        """One value of the first row of a read, or `None`."""
        row = await self.fetchrow(sql, *args)
        return None if row is None else row[column]

    async def nearest(
        self,
        collection: str,
        *,
        text: str | None = None,
        embedding: Sequence[float] | None = None,
        k: int,
        where: str | None = None,
        args: Sequence[Any] = (),
    ) -> list[asyncpg.Record]:
        """The `k` rows of a table nearest to a text or an embedding, by cosine distance, in the step's snapshot.

        Args:
            collection: a table, optionally `schema.table`, with columns id, content, metadata and embedding.
            text: embedded by the saver's embedder. Give this or `embedding`.
            embedding: a vector of the column's dimensions.
            k: how many rows at most; at least 1.
            where: an SQL condition with `$1`, `$2`, … for `args`. It is SQL text: never build it from input.
            args: values for `where`.

        Returns:
            Rows with `id`, `content`, `metadata` and `distance`, nearest first.
        """
        if k < 1:
            raise ConfigError(f"nearest({collection!r}): k must be at least 1, not {k}.")
        if (text is None) == (embedding is None):
            raise ConfigError(f"nearest({collection!r}): give exactly one of text and embedding.")
        vector = embedding if embedding is not None else await self._engine.embed_one(text or "")
        table = ".".join(quote_identifier(part) for part in collection.split("."))
        at = len(args) + 1
        sql = (
            f"SELECT id, content, metadata, embedding <=> ${at}::text::vector AS distance FROM {table}"  # noqa: S608
            f"{f' WHERE ({where})' if where else ''} ORDER BY embedding <=> ${at}::text::vector, id LIMIT ${at + 1}"
        )
        return await self.fetch(sql, *args, "[" + ",".join(repr(float(x)) for x in vector) + "]", k)

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """Stage a write. It is applied at the barrier, in the transaction that commits the super-step.

        Args:
            sql: one statement.
            *args: its arguments.
            expect_rows: the row count that the command must report; another one is a conflict, and the task runs again.
        """
        if ends_transaction(sql):
            raise StatementRefused(
                f"stage() takes one statement that writes rows; {sql.strip()[:40]!r} would control the transaction, "
                f"which is the super-step's."
            )
        self._step.check(self._attempt)
        self._attempt.staged.append(Staged(sql, copy.deepcopy(args), expect_rows))

    def uses(self, what: str) -> None:
        """Record that this task used a named version of something, such as the prompt "verify@3".

        If the task's result becomes part of a commit, so does its name: in the `prompts` of the super-step's record.
        This says what was used; only what was read through the step is validated.
        """
        self._step.check(self._attempt)
        if what not in self._attempt.uses:
            self._attempt.uses.append(what)

    @cached_property
    def sync(self) -> SyncStep:
        """The same methods for synchronous nodes. They block the calling thread, not the event loop."""
        return SyncStep(self)

    @property
    def _engine(self) -> Engine:
        return self._step.run.engine


class SyncStep:
    """`Step` for code that cannot await. See there for the guarantees."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """See `Step.fetch`."""
        return self._block(self._step.fetch(sql, *args))

    def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """See `Step.fetchrow`."""
        return self._block(self._step.fetchrow(sql, *args))

    def fetchval(self, sql: str, *args: Any, column: int = 0) -> Any:
        """See `Step.fetchval`."""
        return self._block(self._step.fetchval(sql, *args, column=column))

    def nearest(
        self,
        collection: str,
        *,
        text: str | None = None,
        embedding: Sequence[float] | None = None,
        k: int,
        where: str | None = None,
        args: Sequence[Any] = (),
    ) -> list[asyncpg.Record]:
        """See `Step.nearest`."""
        return self._block(self._step.nearest(collection, text=text, embedding=embedding, k=k, where=where, args=args))

    def uses(self, what: str) -> None:
        """See `Step.uses`."""
        self._step.uses(what)

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """See `Step.stage`."""
        self._step.stage(sql, *args, expect_rows=expect_rows)

    def _block(self, work: Coroutine[Any, Any, T]) -> T:
        return self._step._engine.from_thread(work)  # noqa: SLF001 - two halves of one class


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run some code is executing.

    `checkpoint_id` is what the super-step started from, `root_id` what that of the outermost graph did.
    """

    run: Run
    ns: str
    checkpoint_id: str
    root_id: str
    task_id: str
    node: str
    number: int
    callers: dict[str, str]
    send: Any

    def enter(self) -> tuple[SuperStep, Attempt]:
        """The super-step and the log of this very execution of the task.

        Raises:
            StepConflict: the task's facts have changed.
        """
        step = self.run.step(self.ns, self.checkpoint_id)
        attempt = step.attempt(self.task_id, self.node, self.number, self.callers)
        step.check(attempt)
        return step, attempt


def current_step() -> Step:
    """The step of the task that is running here.

    Raises:
        NoActiveStep: not called from a task of a graph that runs with a `TransactionalSaver`.
        StaleRun: the run has lost its thread to a later one.
    """
    place = locate()
    step, attempt = place.enter()
    if not attempt.marked:
        # LangGraph clears a task's writes when it starts the task anew, and hands them to the saver when the task is
        # done. A mark among them says which execution it was that finished: the only reliable way to tell.
        attempt.marked, attempt.runner = True, _current_task()
        place.send([(NO_WRITES, attempt.token)])
    return Step(step, attempt)


def locate() -> Place:
    """Which run, super-step and task the calling code belongs to.

    Raises:
        NoActiveStep: none that this saver knows.
    """
    try:
        config = get_config()
    except RuntimeError as e:
        raise NoActiveStep("No super-step is running here: call this inside a node, or in what a node awaits.") from e
    conf: Mapping[str, Any] = config.get("configurable", {})
    engine: Engine | None = getattr(conf.get("__pregel_checkpointer"), "engine", None)
    runtime = conf.get("__pregel_runtime")
    if engine is None or runtime is None or "__pregel_task_id" not in conf:
        raise NoActiveStep(
            "The graph running here has no TransactionalSaver: compile it with checkpointer=saver and invoke it with "
            "a thread_id."
        )
    run = engine.find(runtime.control, str(conf["thread_id"]))
    if run is None:
        raise StaleRun(f"The run of thread {conf['thread_id']!r} that this task belongs to has ended.")
    metadata = config.get("metadata", {})
    path = metadata.get("langgraph_path", ())
    ns = _graph_namespace(conf["checkpoint_ns"], path)
    if ns not in run.namespaces:
        raise ConfigError(
            f"Node {metadata.get('langgraph_node')!r} belongs to a subgraph without a checkpointer of its own (or "
            f"to a kind of task this version does not know), so no barrier would ever commit what it stages. Compile "
            f"that subgraph without checkpointer=False."
        )
    info = runtime.execution_info
    return Place(
        run=run,
        ns=ns,
        checkpoint_id=conf["checkpoint_map"][ns],
        root_id=conf["checkpoint_map"].get("", ""),
        task_id=conf["__pregel_task_id"],
        node=str(metadata.get("langgraph_node", "?")),
        number=info.node_attempt if info is not None else 1,
        callers={} if _HANDLER in path else _callers(conf["checkpoint_ns"], ns),
        send=conf["__pregel_send"],
    )


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a synchronous node, in a thread
        return None


def is_marked(writes: Sequence[tuple[str, Any]]) -> bool:
    """Whether LangGraph's writes of a task carry our mark: the task used its step, so its result may rest on facts."""
    return any(channel == NO_WRITES and isinstance(value, str) for channel, value in writes)


def _graph_namespace(task_ns: str, path: Sequence[Any]) -> str:
    """The namespace of the graph whose barrier ends a task, from the task's own namespace and path.

    A task's namespace is its graph's plus one segment. A `@task` call's is its caller's plus one segment, and its
    path nests the caller's, so each level of calls adds one more. A node's error handler has the failed task's
    namespace plus one segment, and its path plus two elements.
    """
    parts = task_ns.split("|")
    depth = 1
    if _HANDLER in path:
        depth += 1
        path = path[: path.index(_HANDLER)]
    while len(path) == 4 and path[0] == "__pregel_push" and path[3] is True:
        depth += 1
        path = path[1]
    return "|".join(parts[:-depth])


def _callers(task_ns: str, graph_ns: str) -> dict[str, str]:
    """The tasks (id to node) between a graph's namespace and a task in it."""
    above = task_ns.split("|")[len(graph_ns.split("|")) if graph_ns else 0 : -1]
    return {task_id: node for node, _, task_id in (part.rpartition(":") for part in above)}
