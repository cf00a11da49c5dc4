"""What `runtime run` and `runtime resume` have in common: a flow on a thread, shown while it runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.exits import Stopped
from superstep.runtime.cli.run.debounce import debounced
from superstep.runtime.cli.run.outcome import Outcome, blank_report
from superstep.runtime.cli.run.progress import RunProgress
from superstep.runtime.cli.run.run_options import RunOptions
from superstep.runtime.cli.threads import thread_config
from superstep.runtime.faults import DatabaseUnavailable, RuntimeFault
from superstep.runtime.loading.hooks import prepared
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.flow.transactional import Transactional
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["Turn", "strategy_of", "take_turn", "wrapped"]

OFFLINE = "models: offline, deterministic ({why})"


@dataclass(slots=True)
class Turn:
    """One run of a graph on a thread.

    Attributes:
        loaded: the graph, with the hooks of its module.
        name: the name the thread knows the graph by.
        thread: id of the thread.
        payload: input, `Command`, or `None` to continue.
        checkpoint: checkpoint to fork from.
        known: whether the thread was there before.
        how: context and config of the run.
        take_over: end a run of the thread that another process has under way.
        isolation: "step" or "flow"; `None` for that of the graph.
        strategy: what is to be done if the thread is being run; `None` leaves it to `take_over`.
    """

    loaded: LoadedGraph
    name: str
    thread: str
    payload: Any
    checkpoint: str | None = None
    known: bool = False
    how: RunOptions = field(default_factory=RunOptions)
    take_over: bool = False
    isolation: str | None = None
    strategy: str | None = None

    @property
    def config(self) -> Any:
        """The LangGraph config of the thread, at the checkpoint to fork from if there is one."""
        return self.how.config_of(thread_config(self.thread, self.checkpoint))


def strategy_of(given: str | None, settings: CommandSettings, graph: object) -> str | None:
    """What is to be done if the thread of a run is being run: by the command line, the settings or the graph."""
    from superstep.runtime.flow.transactional import Transactional

    own = graph.settings.multitask_strategy if isinstance(graph, Transactional) else None
    return given or settings.run.multitask_strategy or own


def wrapped(turn: Turn, saver: TransactionalSaver, settings: CommandSettings) -> Transactional:
    """Return the graph on the saver, with conflicts retried as the settings say."""
    from superstep.runtime.flow.retry import Settings
    from superstep.runtime.flow.transactional import Transactional, transactional

    graph = turn.loaded.compile(saver)
    own = graph.settings if isinstance(graph, Transactional) else Settings()
    how = Settings(
        max_attempts=settings.run.max_attempts or own.max_attempts,
        on_stale_answer=settings.run.on_stale_answer,
        take_over=turn.take_over,
        isolation=turn.isolation or own.isolation,
        effects=own.effects,
        multitask_strategy=turn.strategy,
        interrupt_grace=own.interrupt_grace,
    )
    loaded = turn.loaded
    return transactional(graph, name=turn.name, settings=how, version=loaded.version, migrate=loaded.migrate)


async def take_turn(
    turn: Turn, saver: TransactionalSaver, settings: CommandSettings, stop: Stop, *, stream: str | None, as_json: bool
) -> Outcome:
    """Run, show and report.

    Args:
        turn: What to run.
        saver: Stays open; the caller closes it.
        settings: Their section `run` says how conflicts are retried.
        stop: Tells a cancellation by signal from others.
        stream: Stream mode to print as it comes.
        as_json: Whether standard output is for the report alone.

    Returns:
        How it ended. Errors of the run are in it; they are not raised.
    """
    from superstep.runtime.cli.render import OutputClosed, console

    out = console(stderr=as_json)
    progress = RunProgress(out, quiet=as_json and not out.is_terminal, stream=stream)
    flow = wrapped(turn, saver, settings)
    flow.on_conflict = progress.conflict
    error: Exception | None = None
    async with prepared(turn.loaded, saver), _connections():
        with progress:
            try:
                await _drive(flow, turn, saver, progress)
            except asyncio.CancelledError:
                error = _stopped(stop)
            except OutputClosed:
                raise
            except Exception as raised:  # noqa: BLE001 - whatever a node raises is the run's outcome
                error = raised
        return await _outcome(flow, turn, saver, progress, error)


@asynccontextmanager
async def _connections() -> AsyncIterator[None]:
    """Close what calls of models have left open, at the end."""
    from superstep.providers import close_service

    try:
        yield
    finally:
        await close_service()


async def _drive(flow: Transactional, turn: Turn, saver: TransactionalSaver, progress: RunProgress) -> None:
    from superstep.runtime.cli.run.node_events import NodeEvents

    progress.say(f"thread {turn.thread} · {turn.name}")
    progress.say(f"resume with: runtime resume {shell_word(turn.thread)}")
    if (why := _offline_reason()) is not None:
        progress.about_models = OFFLINE.format(why=why)
    if turn.known and not progress.quiet:
        progress.since = next((step.checkpoint_id for step in await saver.asteps(turn.thread, 1)), None)
    modes = [progress.stream] if progress.stream else []
    config: Any = {**turn.config, "callbacks": [NodeEvents(progress)]}
    async with debounced(lambda: _catch_up(turn, saver, progress)) as request_refresh:
        async for mode, chunk in flow.astream(
            turn.payload, config, stream_mode=[*modes, "values"], context=turn.how.context
        ):
            progress.chunk(mode, chunk)
            request_refresh()


async def _catch_up(turn: Turn, saver: TransactionalSaver, progress: RunProgress) -> None:
    """Show what has committed."""
    if not progress.quiet:
        progress.committed([asdict(step) for step in await saver.asteps(turn.thread, since=progress.since)])


def _stopped(stop: Stop) -> Stopped:
    try:
        stop.check()
    except Stopped as stopped:
        return stopped
    raise asyncio.CancelledError


async def _outcome(
    flow: Transactional, turn: Turn, saver: TransactionalSaver, progress: RunProgress, error: Exception | None
) -> Outcome:
    try:
        await _catch_up(turn, saver, progress)
        report = (await flow.areport(turn.config)).to_dict()
        return Outcome(report, error, started=error is None or await saver.athread(turn.thread) is not None)
    except Exception as second:
        if error is None:
            raise
        if isinstance(second, DatabaseUnavailable) and not isinstance(error, RuntimeFault):
            # The database is gone: whatever the run stumbled over (a socket, a file) says so less well.
            second.__cause__, error = error, second
        return Outcome(blank_report(turn.thread, turn.name), error, started=turn.known or progress.shown)


def _offline_reason() -> str | None:
    """Tell why every model answers offline, or `None` if one does not."""
    from superstep.providers import current_catalog

    catalog = current_catalog()
    routes = [*catalog.routes.values(), *([catalog.catch_all] if catalog.catch_all else [])]
    deployments = [deployment for route in routes for deployment in route.deployments]
    if any(deployment.provider != "offline" for deployment in deployments):
        return None
    return deployments[0].where or "configured so"
