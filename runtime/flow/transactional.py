"""`transactional(graph)`: the same graph, with conflicts retried and streams that show a super-step once."""

from __future__ import annotations

from contextlib import aclosing, closing
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from langgraph.pregel import Pregel
from tenacity import AsyncRetrying, Retrying, retry_if_exception_type, stop_after_attempt

from superstep.checkpointer import GraphCall, TransactionalSaver, graph_call
from superstep.runtime.faults import (
    ConfigError,
    GraphChanged,
    GraphInvalid,
    StaleRun,
    StepConflict,
    ThreadBusy,
    ThreadNotGiven,
)
from superstep.runtime.flow.attempts import Attempts, with_factless_cache
from superstep.runtime.flow.report import RunReport, run_report
from superstep.runtime.flow.retry import Settings
from superstep.runtime.flow.stream_gate import Shape
from superstep.runtime.wiring import join

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateUpdate

__all__ = ["DELIVERY", "TRIAL_OF", "Settings", "Transactional", "transactional"]

_Graph = Pregel[Any, Any, Any, Any]
_UPDATES = 12  # tries of an update of the latest state, which may have moved


def transactional(
    graph: Any,
    *,
    isolation: str | None = None,
    effects: str | None = None,
    settings: Settings | None = None,
    name: str | None = None,
    version: str | None = None,
    migrate: Callable[[dict[str, Any], str], Any] | None = None,
) -> Transactional:
    """Make a compiled graph retry conflicts. The result is a compiled graph of the same class, and used like it.

    Args:
        graph: compiled with `checkpointer=` a `TransactionalSaver`, or without one: then it runs with that of the graph
            that it is a part of, or with the one it is given by `copy(update={"checkpointer": saver})`.
        isolation: "step" or "flow", in place of that of the settings.
        effects: "again" or "keep", likewise.
        settings: see `Settings`.
        name: kept with each thread; running a thread of another name is refused.
        version: of the graph, kept with each thread; by default a digest of its structure. What a thread has left
            unfinished with one version is not gone on with by one that has no place for it. See docs/parked-threads.md.
        migrate: `migrate(state, from_version)` makes the state of such a thread one of this version: it returns the
            whole state as a dict, or a `Command` with it that says before which nodes to go on. May be asynchronous.

    As a part of another graph (a node, an agent of a supervisor, a call in a node) it is an ordinary subgraph: its
    conflicts are retried by the outermost flow, or raised if that is a plain graph. A call in a node that names a
    thread is a run of its own. Run alone without any checkpointer it does what LangGraph does, and `current_step()`
    raises `NoActiveStep`.

    Re-run contract: nodes may run more than once. What they do through `current_step()` and chat models is consistent
    by itself; other effects happen each time.

    Raises:
        GraphInvalid: not a compiled graph, or compiled with another checkpointer.
    """
    if not isinstance(graph, Pregel):
        raise GraphInvalid(
            f"transactional() takes a compiled graph, not {type(graph).__name__}: call .compile() first."
        )
    _refuse_foreign(graph.checkpointer)
    join()
    plain = graph.graph if isinstance(graph, Transactional) else graph
    settings = settings or Settings()
    if isolation is not None:
        settings = replace(settings, isolation=isolation)
    if effects is not None:
        settings = replace(settings, effects=effects)
    flow = _like(type(plain)).around(plain, settings, name)
    if isinstance(graph, Transactional):
        flow.version, flow.migrate = graph.version, graph.migrate
    flow.version, flow.migrate = version or flow.version, migrate or flow.migrate
    return flow


class Transactional(_Graph):
    """A compiled graph whose super-steps are retried on conflicts.

    Its attributes are those of the graph that it was made of. The class of a flow derives from this one and from the
    class of that graph.

    Attributes:
        settings: how conflicts are retried.
        label: kept with each thread, see `transactional`.
        version: what its author calls this version of the graph, if anything.
        migrate: lifts the state of parked threads to it, see `transactional`.
        on_conflict: called with each `StepConflict` before the retry, for showing progress.
    """

    plain_class: ClassVar[type[_Graph]]
    settings: Settings
    label: str | None
    version: str | None
    migrate: Callable[[dict[str, Any], str], Any] | None
    on_conflict: Callable[[StepConflict], None] | None

    @classmethod
    def around(cls, graph: _Graph, settings: Settings, label: str | None) -> Self:
        """A flow with the attributes of a graph of `plain_class`."""
        flow = cls.__new__(cls)
        vars(flow).update(vars(graph), settings=settings, label=label, version=None, migrate=None, on_conflict=None)
        flow.name = label or graph.name
        return flow

    def __repr__(self) -> str:
        return f"transactional({super().__repr__()})"

    @property
    def graph(self) -> _Graph:
        """The graph as LangGraph runs it: conflicts are raised."""
        graph = self.plain_class.__new__(self.plain_class)
        vars(graph).update((key, value) for key, value in vars(self).items() if key not in _OURS)
        return graph

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """A copy with other attributes, as transactional as this one."""
        made = self.graph.copy(update)
        # What `compile` has set after the constructor is not in LangGraph's copy.
        kept = {key: value for key, value in vars(self).items() if key in _OURS or key.startswith("_")}
        flow = type(self).__new__(type(self))
        vars(flow).update(vars(made))
        vars(flow).update(kept)
        return flow

    def astream(  # type: ignore[override]  # one signature for LangGraph's overloads
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        stream_mode: str | Sequence[str] | None = None,
        subgraphs: bool = False,
        version: str = "v1",
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """Run and stream as LangGraph does; values and updates of a super-step come once, after its commit.

        Every durability is the same here: a super-step is committed before the next one starts. A stream that is left
        can be forgotten: the next run of the thread takes it over. With `multitask_strategy=`, as in `Settings`, the
        call says what becomes of it if the thread is being run.

        Raises:
            ConflictExhausted: a super-step conflicted `max_attempts` times. The thread can be resumed.
            StagedWriteFailed: the database rejected a staged write.
            StaleRun: a later run took the thread over.
            GraphChanged: the thread has left work unfinished that this version of the graph has no place for.
            ThreadBusy: this process is running the thread already; or another one is, and is not to be fenced.
            RollbackRefused: the run that was to be rolled back has committed domain writes, and goes on.
            ThreadNotGiven: no thread_id.
            GraphInvalid: the graph was given another checkpointer.
        """
        shape = Shape.of(self._mode(stream_mode), subgraphs=subgraphs, version=version)
        how = _how(options)
        call = graph_call(self.config, config, self.checkpointer)
        saver = _saver_of(call)
        if saver is not None:
            run = Attempts(self, saver, call, input, config, shape, options, **how)
            return self._aattempts(run, saver) if run.admission is None else self._aadmitted(run, saver)
        options.update(stream_mode=stream_mode, subgraphs=subgraphs, version=version)
        stream = super().astream(input, with_factless_cache(self, call, config), **options)
        return cast("AsyncGenerator[Any, None]", stream)

    async def _aadmitted(self, run: Attempts, saver: TransactionalSaver) -> AsyncGenerator[Any, None]:
        """`_aattempts` of a call that has said what is to be done if the thread is being run."""
        home, refused = saver.database.home, None
        try:
            while True:
                await home.call(run.admit(refused))
                try:
                    async with aclosing(self._aattempts(run, saver)) as items:
                        async for item in items:
                            yield item
                except ThreadBusy as busy:
                    refused = busy
                else:
                    return
        finally:
            await home.finishing(run.dismiss())

    async def _aattempts(self, run: Attempts, saver: TransactionalSaver) -> AsyncGenerator[Any, None]:
        home = saver.database.home
        with run.exclusive():
            try:
                with run.outcome():
                    await home.call(run.enter())
                    while True:
                        try:
                            stream = cast("AsyncGenerator[Any, None]", super().astream(run.given, **run.begin()))
                            async with run.current(), aclosing(run.traced(stream)) as chunks:
                                async for raw in chunks:
                                    chunk = run.gate.shape.read(raw)
                                    if (commit := run.awaited(chunk)) is not None:
                                        await home.call(commit)
                                    for shown in run.take(chunk):
                                        yield shown
                            for shown in run.ended():
                                yield shown
                        except StepConflict as conflict:
                            pause = run.failed(conflict)
                            await home.call(run.rewind(pause))
                        except GraphChanged as changed:
                            await home.call(run.lift(changed))
                        else:
                            return
            finally:
                await home.finishing(run.finish())

    def stream(  # type: ignore[override]  # one signature for LangGraph's overloads
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        stream_mode: str | Sequence[str] | None = None,
        subgraphs: bool = False,
        version: str = "v1",
        **options: Any,
    ) -> Iterator[Any]:
        """`astream` for callers without an event loop: LangGraph's synchronous loop, on the calling thread.

        Nodes are called by their synchronous side, and the graph goes on when the consumer asks for more.

        Raises:
            NoActiveStep: called on the saver's event loop, which this would block.
        """
        shape = Shape.of(self._mode(stream_mode), subgraphs=subgraphs, version=version)
        how = _how(options)
        call = graph_call(self.config, config, self.checkpointer)
        saver = _saver_of(call)
        if saver is not None:
            run = Attempts(self, saver, call, input, config, shape, options, **how)
            return self._attempts(run, saver) if run.admission is None else self._admitted(run, saver)
        options.update(stream_mode=stream_mode, subgraphs=subgraphs, version=version)
        return super().stream(input, with_factless_cache(self, call, config), **options)

    def _admitted(self, run: Attempts, saver: TransactionalSaver) -> Iterator[Any]:
        home, refused = saver.database.home, None
        home.refuse_blocking()
        try:
            while True:
                home.block(run.admit(refused))
                try:
                    yield from self._attempts(run, saver)
                except ThreadBusy as busy:
                    refused = busy
                else:
                    return
        finally:
            home.block(run.dismiss())

    def _attempts(self, run: Attempts, saver: TransactionalSaver) -> Iterator[Any]:
        home = saver.database.home
        home.refuse_blocking()
        with run.exclusive():
            try:
                with run.outcome():
                    home.block(run.enter())
                    while True:
                        try:
                            stream = super().stream(run.given, **run.begin())
                            with closing(run.traced_sync(cast("Generator[Any, None, None]", stream))) as chunks:
                                for raw in chunks:
                                    chunk = run.gate.shape.read(raw)
                                    if (commit := run.awaited(chunk)) is not None:
                                        home.block(commit)
                                    yield from run.take(chunk)
                            yield from run.ended()
                        except StepConflict as conflict:
                            pause = run.failed(conflict)
                            home.block(run.rewind(pause))
                        except GraphChanged as changed:
                            home.block(run.lift(changed))
                        else:
                            return
            finally:
                home.block(run.finish())

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:  # noqa: A002
        """Run to the end, or to the next interrupt, and return the state. See `astream` for what it raises."""
        return await super().ainvoke(input, config, **{**options, _WHOLE: True})

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:  # noqa: A002
        """`ainvoke` for callers without an event loop; see `stream`."""
        return super().invoke(input, config, **{**options, _WHOLE: True})

    def _mode(self, stream_mode: str | Sequence[str] | None) -> str | Sequence[str]:
        return self.stream_mode if stream_mode is None else stream_mode

    # -- changing ------------------------------------------------------------------------------------------------

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """See LangGraph. Without a checkpoint id the update is made of the latest state, however often that moves.

        Fences a run of the thread that is under way, but never cuts out what that has committed.

        Raises:
            StaleRun: the thread moved on between two super-steps of the update, or again and again.
        """
        again = AsyncRetrying(**_made_again(config, supersteps))
        return await again(super().abulk_update_state, config, supersteps)

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """`abulk_update_state` for callers without an event loop."""
        return Retrying(**_made_again(config, supersteps))(super().bulk_update_state, config, supersteps)

    async def areport(self, config: RunnableConfig) -> RunReport:
        """The thread's latest run. See `RunReport`.

        Raises:
            ThreadNotGiven: no thread_id.
            ConfigError: the graph has no checkpointer.
        """
        call = graph_call(self.config, config, self.checkpointer)
        saver = _saver_of(call)
        if saver is None:
            raise ConfigError("This graph has no checkpointer, so nothing is known of its runs.")
        thread_id = str(call.conf["thread_id"])
        latest = await saver.alatest_run(thread_id)
        state = await self.aget_state({"configurable": {"thread_id": thread_id}})
        return run_report(thread_id, self.label, latest, state)


_OURS = frozenset({"settings", "label", "version", "migrate", "on_conflict"})
TRIAL_OF = "_trial_of"  # the thread that is decided again, see `reconcile`
DELIVERY = "_delivery"  # the queued run that it is, see `workers`
_STRATEGY = "multitask_strategy"
_WHOLE = "_whole"  # the stream's consumer is `invoke`, which comes back for sure


def _how(options: dict[str, Any]) -> dict[str, Any]:
    """What of the options of a call is ours, taken out of them."""
    ours = {"trial_of": TRIAL_OF, "strategy": _STRATEGY, "delivery": DELIVERY}
    return {"whole": options.pop(_WHOLE, False), **{name: options.pop(key, None) for name, key in ours.items()}}


@cache
def _like(plain: type[_Graph]) -> type[Transactional]:
    """The class of flows that are made of graphs of this class, with its name, which graphs around them show."""
    names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__}
    return type(plain.__name__, (Transactional, plain), {"plain_class": plain, **names})


def _saver_of(call: GraphCall) -> TransactionalSaver | None:
    """The saver of the run that this call begins; `None` if it is part of a run, or of one that saves nothing.

    Raises:
        GraphInvalid: the graph was given a checkpointer of another kind.
        ThreadNotGiven: no thread_id.
    """
    if call.is_nested:
        return None
    _refuse_foreign(call.checkpointer)
    saver = _behind(call.checkpointer)
    if saver is not None and call.conf.get("thread_id") is None:
        raise ThreadNotGiven('A run needs a thread: pass {"configurable": {"thread_id": "..."}} as config.')
    return saver


def _behind(checkpointer: object) -> TransactionalSaver | None:
    """The saver that a checkpointer is, or forwards to."""
    saver = getattr(checkpointer, "unwrapped", None)
    return saver if isinstance(saver, TransactionalSaver) else None


def _refuse_foreign(checkpointer: object) -> None:
    if checkpointer is not None and not isinstance(checkpointer, bool) and _behind(checkpointer) is None:
        raise GraphInvalid(
            f"transactional() needs a TransactionalSaver, but the graph has the checkpointer "
            f"{type(checkpointer).__name__}. Compile it with checkpointer=TransactionalSaver, or without any and let "
            f"the graph around it, or `copy(update=...)`, bring one."
        )


def _made_again(config: RunnableConfig, supersteps: Sequence[object]) -> dict[str, Any]:
    """How an update that came too late is made again: one that has stored nothing, and is about the latest state."""
    repeatable = len(supersteps) == 1 and not (config.get("configurable") or {}).get("checkpoint_id")
    return {
        "stop": stop_after_attempt(_UPDATES if repeatable else 1),
        "retry": retry_if_exception_type(StaleRun),
        "reraise": True,
    }
