"""`runtime submit`: a run that waits for a worker."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, Duration, common_options, json_option, pass_common
from superstep.runtime.cli.run.commands import RunRequest, context_option, example, is_known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import Request
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["asked", "submit"]


@click.command()
@click.argument("graph")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="Input. Default: the graph's example_input.")
@click.option("--thread", metavar="ID", help="Thread to run on, by its whole id. Default: a new one.")
@click.option("--priority", type=click.IntRange(-(2**31), 2**31 - 1), default=0, help="A greater one starts first.")
@click.option("--delay", type=Duration(), help="Start it after this time at the earliest, such as 5m.")
@click.option("--key", metavar="KEY", help="What it shares a limit with: see runtime limits.")
@click.option("--tenant", metavar="NAME", default="", help="Who it is for. Tenants take turns.")
@context_option
@json_option
@common_options
@pass_common
def submit(
    common: Common,
    /,
    priority: int,
    delay: timedelta | None,
    key: str | None,
    tenant: str,
    **options: Any,
) -> int:
    """Have a run of GRAPH wait for a worker, and print its thread.

    The input is held against the graph's state at once, as by run.
    """
    from superstep.runtime.cli.render import answer, print_json
    from superstep.runtime.cli.session import run_async

    request = RunRequest(common, **options)
    how = {"priority": priority, "delay": delay or timedelta(0), "key": key, "tenant": tenant}

    async def main(_: Stop) -> tuple[str, str]:
        return await _submit(request, how)

    thread, name = run_async(main)
    if request.as_json:
        print_json({"thread_id": thread, "graph": name, "state": "queued"})
    else:
        answer(f"{thread}\n")
    return 0


async def _submit(request: RunRequest, where: dict[str, Any]) -> tuple[str, str]:
    from superstep.runtime.cli.run.inputs import require_fields
    from superstep.runtime.cli.session import open_saver

    async with asked(request) as (settings, loaded, given):
        graph = loaded.compile()
        async with open_saver(settings, prepare=True) as saver:
            if not await is_known(request, loaded, saver, takes=True):
                require_fields(given.input, graph, loaded.name)
            how = {**where, "config": given.config, "context": given.context}
            thread = await saver.of_graph(graph).fleet.submit(loaded.name, given.input, thread=request.thread, **how)
            return thread, loaded.name


@asynccontextmanager
async def asked(request: RunRequest) -> AsyncIterator[tuple[CommandSettings, LoadedGraph, Request]]:
    """Load the graph of a run that is to be performed elsewhere, and hold what it is entered with against it.

    Raises:
        GraphNotFound: There is no such graph.
        InputInvalid: The input, the context or the config does not fit.
    """
    from superstep.checkpointer import Request
    from superstep.runtime.cli.run.inputs import fit_input, read_json
    from superstep.runtime.cli.run.run_options import fit_context, read_options
    from superstep.runtime.loading.loader import load_graph
    from superstep.runtime.settings.models import use_models

    settings = request.common.settings(runs=True)
    given = None if request.given is None else (read_json(request.given, "--input"),)
    how = read_options(request.context, request.common.run_config)
    use_models(settings)
    loaded = await load_graph(str(request.graph), call=how.factory_call(request.thread or ""))
    async with aclosing(loaded):
        graph = loaded.compile()
        value = fit_input(given[0], graph, loaded.name) if given else example(loaded)
        fit_context(how, graph, loaded.name)
        yield settings, loaded, Request(value, how.config, how.context)
