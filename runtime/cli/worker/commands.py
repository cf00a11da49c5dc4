"""`runtime worker`, `runtime runs`, `runtime limits`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from superstep.checkpointer import Fleet, TransactionalSaver
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["limits", "runs", "worker"]

_STATES = ("queued", "running", "completed", "interrupted", "failed")


@click.command()
@click.option("--concurrency", type=click.IntRange(min=1), help="Runs at once. Default: 10, or [worker] concurrency.")
@click.option("--graph", "graphs", metavar="GRAPH", multiple=True, help="Take runs of this graph only; repeatable.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    help="Seconds that runs may go on when it stops. Default: 30, or [worker] grace.",
)
@click.option("--metrics-port", type=click.IntRange(0, 65_535), metavar="PORT", help="Serve /metrics for Prometheus.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="The address that it is served on.")
@json_option
@common_options
@pass_common
def worker(
    common: Common,
    concurrency: int | None,
    graphs: tuple[str, ...],
    grace: float | None,
    metrics_port: int | None,
    metrics_host: str,
    as_json: bool,
) -> int:
    """Take queued runs, until it is stopped.

    Any number of workers, on any machines, may share a database. SIGTERM or Ctrl-C lets the runs under way commit their
    super-steps, and hands them to other workers. With --json it prints at its end how many runs ended how.
    """
    from superstep.runtime.cli.render import print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings(imports=True)
    given: dict[str, Any] = {"concurrency": concurrency, "grace": grace}
    own = replace(settings.worker, **{key: value for key, value in given.items() if value is not None})
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    ended = run_async(lambda stop: _work(replace(settings, worker=own), list(graphs) or None, metrics, stop))
    if as_json:
        print_json({"runs": ended})
    return 0


async def _work(
    settings: CommandSettings, only: list[str] | None, metrics: tuple[str, int] | None, stop: Stop
) -> dict[str, int]:
    import asyncio

    from superstep.providers import close_service
    from superstep.runtime.cli.render import complain
    from superstep.runtime.cli.session import open_saver
    from superstep.runtime.settings.models import use_models
    from superstep.runtime.workers.graphs import Graphs
    from superstep.runtime.workers.worker import Worker

    use_models(settings)
    stopping = asyncio.Event()
    stop.call(stopping.set)
    async with open_saver(settings, prepare=True) as saver:
        try:
            async with Graphs(saver, settings.run, only) as graphs, _served(saver, metrics):
                names = f" of {', '.join(sorted(only))}" if only else ""
                complain(f"A worker for {settings.worker.concurrency} runs at once{names}. Stop it with Ctrl-C.")
                working = Worker(saver, graphs, settings.worker, complain)
                await working.work(stopping)
                return dict(working.ended)
        finally:
            await close_service()


@asynccontextmanager
async def _served(saver: TransactionalSaver, metrics: tuple[str, int] | None) -> AsyncIterator[None]:
    from superstep.runtime.cli.render import complain
    from superstep.runtime.exposition.server import serving_metrics

    if metrics is None:
        yield
        return
    host, port = metrics
    async with serving_metrics(saver, port, host=host) as served:
        complain(f"Metrics: http://{host}:{served}/metrics")
        yield


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, latest first.")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--thread", metavar="ID", help="Only those of this thread, by its whole id.")
@click.option("--before", metavar="NR", type=int, help="Only those before this one: the last of the page before.")
@json_option
@common_options
@pass_common
def runs(common: Common, limit: int, state: str | None, thread: str | None, before: int | None, as_json: bool) -> int:
    """List runs that were submitted, the latest first."""
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.worker.views import print_runs

    found = _on_fleet(common, lambda fleet: fleet.runs(limit, state=state, thread=thread, before=before))
    if as_json:
        print_json([asdict(run) for run in found])
    else:
        print_runs(found, console())
    return 0


@click.group()
@common_options
def limits() -> None:
    """How many runs may be under way at once, over all workers."""


scope_argument = click.argument("scope", type=click.Choice(["graph", "key"]))


@limits.command(name="list")
@json_option
@common_options
@pass_common
def list_(common: Common, as_json: bool) -> int:
    """List the limits."""
    from superstep.runtime.cli.render import console, print_json, table

    found = _on_fleet(common, lambda fleet: fleet.limits())
    if as_json:
        print_json([asdict(limit) for limit in found])
    elif found:
        rows = [(limit.scope, limit.name, limit.most) for limit in found]
        table([("scope", ""), ("name", ""), ("at once", "right")], rows, console())
    else:
        console().print("No limits. Set one with: runtime limits set graph GRAPH N")
    return 0


@limits.command(name="set")
@scope_argument
@click.argument("name")
@click.argument("most", type=click.IntRange(1, 2**31 - 1))
@json_option
@common_options
@pass_common
def set_(common: Common, scope: str, name: str, most: int, as_json: bool) -> int:
    """Let MOST runs of a graph, or with a key, be under way at once.

    NAME '*' is each graph, or each key, that has no limit of its own.
    """
    from superstep.checkpointer import Limit
    from superstep.runtime.cli.render import print_json

    limit = Limit(scope, name, most)
    _on_fleet(common, lambda fleet: fleet.set_limit(limit))
    if as_json:
        print_json(asdict(limit))
    return 0


@limits.command(name="remove")
@scope_argument
@click.argument("name")
@json_option
@common_options
@pass_common
def remove(common: Common, scope: str, name: str, as_json: bool) -> int:
    """Have no limit there any more."""
    from superstep.runtime.cli.render import print_json
    from superstep.runtime.faults import ConfigError

    if not _on_fleet(common, lambda fleet: fleet.drop_limit(scope, name)):
        raise ConfigError(f"There is no limit of the {scope} {name!r}. List them with: runtime limits list")
    if as_json:
        print_json({"scope": scope, "name": name, "removed": True})
    return 0


def _on_fleet(common: Common, work: Callable[[Fleet], Awaitable[Any]]) -> Any:
    from superstep.runtime.cli.session import ask_threads

    return ask_threads(common.settings(), lambda stored: work(stored.fleet))
