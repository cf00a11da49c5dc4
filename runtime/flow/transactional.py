"""`transactional(graph)`: the same graph, with conflicts retried and streams that show a super-step once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

from langgraph.errors import GraphDrained
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from langgraph.runtime import RunControl
from langgraph.types import Command, GraphOutput, Interrupt, StateSnapshot, StateUpdate

from superstep.checkpointer import CACHE, INTERRUPT, RunOptions, TransactionalSaver
from superstep.runtime.faults import ConfigError, GraphInvalid, StepConflict
from superstep.runtime.flow.answers import for_open_questions, names_any
from superstep.runtime.flow.node_cache import FactlessCache
from superstep.runtime.flow.report import RunReport, run_report
from superstep.runtime.flow.retry import Settings, Tries
from superstep.runtime.flow.stream_gate import Gate, Shape
from superstep.runtime.wiring import join

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig

__all__ = ["Settings", "Transactional", "transactional"]

_LEAVE = 30.0  # seconds to wait for a run to wind down that the caller has left


def transactional(graph: Any, *, settings: Settings | None = None, name: str | None = None) -> Transactional:
    """Wrap a compiled graph so that conflicts are retried. The result is used like the graph itself.

    Args:
        graph: compiled with `checkpointer=` a `TransactionalSaver`.
        settings: see `Settings`.
        name: kept with each thread; running a thread of another name is refused.

    Re-run contract: nodes may run more than once. What they do through `current_step()` and chat models is consistent
    by itself; other effects happen each time.

    Raises:
        GraphInvalid: not a compiled graph, or compiled with another checkpointer.
    """
    if not isinstance(graph, Pregel):
        raise GraphInvalid(
            f"transactional() takes a compiled graph, not {type(graph).__name__}: call .compile() first."
        )
    if not isinstance(graph.checkpointer, TransactionalSaver):
        raise GraphInvalid("transactional() needs a graph compiled with checkpointer=TransactionalSaver.")
    return Transactional(graph, settings or Settings(), name)


class Transactional(PregelProtocol[Any, Any, Any, Any]):
    """A compiled graph whose super-steps are retried on conflicts. Attributes it lacks are the graph's.

    Attributes:
        graph: the wrapped graph.
        on_conflict: called with each `StepConflict` before the retry, for showing progress.
    """

    def __init__(self, graph: Pregel[Any, Any, Any, Any], settings: Settings, name: str | None) -> None:
        join()
        self.graph = graph
        self.settings = settings
        self.name = name or graph.name
        self.on_conflict: Callable[[StepConflict], None] | None = None
        self._label = name
        self._saver = cast("TransactionalSaver", graph.checkpointer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["graph"], name)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Self:
        """A copy with other default configuration."""
        copy = type(self)(self.graph.with_config(config, **kwargs), self.settings, self._label)
        copy.on_conflict = self.on_conflict
        return copy

    # -- running -------------------------------------------------------------------------------------------------

    # Over 40 lines: half are LangGraph's signature and the contract, and one more generator would cost each chunk.
    async def astream(  # type: ignore[override]  # one signature for LangGraph's overloads
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        stream_mode: str | Sequence[str] | None = None,
        subgraphs: bool = False,
        durability: str | None = None,
        control: RunControl | None = None,
        version: str = "v1",
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        """Run and stream as LangGraph does; values and updates of a super-step come once, after its commit.

        `durability` "sync" and "async" are the same here: a super-step is committed before the next one starts.

        Raises:
            ConflictExhausted: a super-step conflicted `max_attempts` times. The thread can be resumed.
            StagedWriteFailed: the database rejected a staged write.
            StaleRun: a later run took the thread over.
            ThreadBusy: this process is running the thread already.
            ConfigError: no thread_id, or durability "exit".
        """
        thread_id = _thread_id(config)
        shape = Shape.of(stream_mode or self.graph.stream_mode, subgraphs=subgraphs, version=version)
        control = control or RunControl()
        call = {
            **kwargs,
            "config": _with(
                config, **({CACHE: FactlessCache(cache)} if (cache := self.graph.cache) is not None else {})
            ),
            "stream_mode": shape.asked,
            "subgraphs": subgraphs,
            # Not "sync": subgraphs inherit that, and LangGraph fails on it in those without a checkpointer. The wait at
            # each checkpoint event below has the same effect.
            "durability": durability if durability == "exit" else "async",
            "control": control,
            "version": version,
        }
        ending = _Ending()
        with self._saver.runs.exclusive(thread_id):
            try:
                async with aclosing(self._attempts(input, call, shape, thread_id, ending)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except GraphDrained:
                raise
            except Exception as e:
                ending.status, ending.error = "failed", f"{type(e).__name__}: {e}"
                raise
            finally:
                await self._saver.afinish(thread_id, ending.options.attempt, ending.status, ending.error)

    async def _attempts(
        self, given: Any, call: dict[str, Any], shape: Shape, thread_id: str, ending: _Ending
    ) -> AsyncGenerator[Any, None]:
        """One attempt after the other, each from where the thread's last commit left it."""
        tried = Tries(self.settings)
        first, given = given, await self._addressed(given, call["config"])
        while True:
            # New options each time: what a cancelled attempt leaves running belongs to a run that is over.
            accept = self.settings.on_stale_answer == "accept"
            options = ending.options = RunOptions(self._label, accept, tells_questions_apart=True)
            call["config"] = _with(call["config"], **{RunOptions.KEY: options})
            gate = Gate(shape, again=tried.conflicts > 0)
            try:
                async with aclosing(cast("AsyncGenerator[Any, None]", self.graph.astream(given, **call))) as chunks:
                    async for raw in chunks:
                        seen = shape.read(raw)
                        if (checkpoint_id := shape.checkpoint(seen)) is not None:
                            await self._committed(options, thread_id, "|".join(seen.ns), checkpoint_id)
                        for chunk in gate.push(seen):
                            yield chunk
                run = self._saver.runs.find(options.attempt, thread_id)
                if gate.interrupted and run is not None and (drift := run.drift()) is not None:
                    raise drift
                for chunk in gate.finish(run.renamed if run is not None else {}):
                    yield chunk
            except StepConflict as conflict:
                run = self._saver.runs.find(options.attempt, thread_id)
                pause = tried.after(conflict, progressed=run is not None and run.commits > 0)
                if self.on_conflict is not None:
                    self.on_conflict(conflict)
                await self._saver.database.home.call(self._saver.runs.end(options.attempt))
                await asyncio.sleep(pause)
                if run is not None and run.moved:
                    # The run has stored something, the fork checkpoint at least: go on from there, not from the
                    # checkpoint that the caller addressed.
                    call["config"] = _without_checkpoint(call["config"])
                given = await self._go_on(first, call["config"])
            else:
                ending.status = "interrupted" if gate.interrupted else "completed"
                return

    async def _go_on(self, first: Any, config: RunnableConfig) -> Any:
        """What to re-enter with: nothing new, except answers to interrupts that are not stored with the thread.

        LangGraph keeps a single answer among the pending writes, but a map of answers only in the run's memory. Those
        whose questions were withdrawn, or that were taken already, are left out.
        """
        if not names_any(first):
            return None
        state = await self.graph.aget_state(_plain(config))
        withdrawn = await self._saver.awithdrawn(config["configurable"]["thread_id"])
        left = for_open_questions(first, state.interrupts, withdrawn)
        return Command(resume=left.resume) if left is not None and left.resume else None

    async def _addressed(self, given: Any, config: RunnableConfig) -> Any:
        """The input, with answers only for questions that are open, under the names that LangGraph has for them."""
        if not names_any(given):
            return given
        state = await self.graph.aget_state(_addresses(config))
        if not state.interrupts:
            return given
        withdrawn = await self._saver.awithdrawn(config["configurable"]["thread_id"])
        return for_open_questions(given, state.interrupts, withdrawn)

    async def _committed(self, options: RunOptions, thread_id: str, ns: str, checkpoint_id: str) -> None:
        run = self._saver.runs.find(options.attempt, thread_id)
        if run is not None:
            await self._saver.database.home.call(run.committed(ns, checkpoint_id))

    async def ainvoke(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stream_mode: str = "values",
        version: str = "v1",
        **kwargs: Any,
    ) -> Any:
        """Run to the end, or to the next interrupt, and return the state. See `astream` for what it raises."""
        modes = ["updates", "values"] if stream_mode == "values" and version == "v1" else stream_mode
        latest: Any = None
        chunks: list[Any] = []
        interrupts: list[Interrupt] = []
        async for chunk in self.astream(input, config, stream_mode=modes, version=version, **kwargs):
            if stream_mode != "values":
                chunks.append(chunk)
            elif version == "v2":
                latest = chunk["data"]
                interrupts.extend(chunk.get("interrupts", ()))
            elif chunk[0] == "values":
                latest = chunk[1]
            elif isinstance(chunk[1], dict):
                interrupts.extend(chunk[1].get(INTERRUPT, ()))
        if stream_mode != "values":
            return chunks
        if version == "v2":
            return GraphOutput(value=latest, interrupts=tuple(interrupts))
        if interrupts:
            return {**(latest if isinstance(latest, dict) else {}), INTERRUPT: interrupts}
        return latest

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """`astream` for callers without an event loop; the saver's loop does the work, this thread waits."""
        yield from self._saver.database.home.iterate(self.astream(input, config, **kwargs), leave=_LEAVE)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """`ainvoke` for callers without an event loop; the saver's loop does the work, this thread waits."""
        return self._saver.database.home.block(self.ainvoke(input, config, **kwargs))

    # -- looking -------------------------------------------------------------------------------------------------

    async def areport(self, config: RunnableConfig) -> RunReport:
        """The thread's latest run. See `RunReport`."""
        thread_id = _thread_id(config)
        latest = await self._saver.alatest_run(thread_id)
        state = await self.graph.aget_state({"configurable": {"thread_id": thread_id}})
        return run_report(thread_id, self._label, latest, state)

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Any:
        """See LangGraph."""
        return self.graph.get_graph(config, xray=xray)

    async def aget_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Any:
        """See LangGraph."""
        return await self.graph.aget_graph(config, xray=xray)

    def get_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """See LangGraph."""
        return self.graph.get_state(config, subgraphs=subgraphs)

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """See LangGraph."""
        return await self.graph.aget_state(config, subgraphs=subgraphs)

    def get_state_history(self, config: RunnableConfig, **kwargs: Any) -> Iterator[StateSnapshot]:
        """See LangGraph."""
        return self.graph.get_state_history(config, **kwargs)

    def aget_state_history(self, config: RunnableConfig, **kwargs: Any) -> AsyncIterator[StateSnapshot]:
        """See LangGraph."""
        return self.graph.aget_state_history(config, **kwargs)

    def bulk_update_state(self, config: RunnableConfig, updates: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """See LangGraph. Fences a run of the thread that is under way."""
        return self.graph.bulk_update_state(config, updates)

    async def abulk_update_state(
        self, config: RunnableConfig, updates: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """See LangGraph. Fences a run of the thread that is under way."""
        return await self.graph.abulk_update_state(config, updates)

    def update_state(self, config: RunnableConfig, values: Any, as_node: str | None = None) -> RunnableConfig:
        """See LangGraph. Fences a run of the thread that is under way."""
        return self.graph.update_state(config, values, as_node)

    async def aupdate_state(self, config: RunnableConfig, values: Any, as_node: str | None = None) -> RunnableConfig:
        """See LangGraph. Fences a run of the thread that is under way."""
        return await self.graph.aupdate_state(config, values, as_node)


@dataclass(slots=True)
class _Ending:
    """How a run ended. "unfinished" stands for a run that was cancelled, closed early or drained."""

    status: str = "unfinished"
    error: str | None = None
    options: RunOptions = field(default_factory=RunOptions)


def _thread_id(config: RunnableConfig | None) -> str:
    thread_id = ((config or {}).get("configurable") or {}).get("thread_id")
    if thread_id is None:
        raise ConfigError('A run needs a thread: pass {"configurable": {"thread_id": "..."}} as config.')
    return str(thread_id)


def _with(config: RunnableConfig | None, **more: Any) -> RunnableConfig:
    config = config or {}
    return {**config, "configurable": {**config.get("configurable", {}), **more}}


def _without_checkpoint(config: RunnableConfig) -> RunnableConfig:
    kept = {key: value for key, value in config["configurable"].items() if key != "checkpoint_id"}
    return {**config, "configurable": kept}


def _addresses(config: RunnableConfig) -> RunnableConfig:
    """The place that a config addresses, and nothing else of it."""
    kept = ("thread_id", "checkpoint_id", "checkpoint_ns")
    return {"configurable": {key: value for key, value in config["configurable"].items() if key in kept}}


def _plain(config: RunnableConfig) -> RunnableConfig:
    return {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
