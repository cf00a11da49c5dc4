"""`runtime metrics`: what was measured of flows, of models, and of how coherent the state was that agents saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from superstep.runtime.cli.options import Common, Duration, common_options, json_option, pass_common

if TYPE_CHECKING:
    from datetime import timedelta

    from superstep.checkpointer import Metrics
    from superstep.runtime.cli.session import Stop

__all__ = ["metrics"]


@click.command()
@click.option("--since", type=Duration(), default="1d", show_default=True, help="Look back so long: 15m, 2h, 7d.")
@click.option("--graph", metavar="NAME", help="Only threads of this graph.")
@click.option("--prometheus", is_flag=True, help="Print the text format of Prometheus.")
@click.option("--serve", type=click.IntRange(0, 65_535), metavar="PORT", help="Serve that on http://HOST:PORT/metrics.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address that --serve listens on.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Lines of each table: the worst."
)
@click.option(
    "--most-steps",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Measure the coherence of so many super-steps at most: the latest.",
)
@json_option
@common_options
@pass_common
def metrics(
    common: Common,
    since: timedelta,
    graph: str | None,
    prometheus: bool,
    serve: int | None,
    host: str,
    limit: int,
    most_steps: int,
    as_json: bool,
) -> int:
    """Show what was measured: coherence of state, super-steps, calls of models, how flows ended.

    By default of the last day.
    """
    if (prometheus or serve is not None) and as_json:
        raise click.UsageError("Give --json, or --prometheus or --serve, not both.")
    if serve is not None:
        return _serve(common, serve, host, since, graph, most_steps)
    from superstep.runtime.cli.metrics.objects import metrics_object
    from superstep.runtime.cli.metrics.tables import print_metrics
    from superstep.runtime.cli.render import answer, console, print_json
    from superstep.runtime.cli.session import open_threads, run_async
    from superstep.runtime.exposition.prometheus import exposition

    settings = common.settings()
    most_rows = limit if not prometheus else None

    async def main(_: Stop) -> Metrics:
        async with open_threads(settings) as threads:
            return await threads.ametrics(since=since, graph=graph, most_steps=most_steps, most_rows=most_rows)

    found = run_async(main)
    if as_json:
        print_json(metrics_object(found))
    elif prometheus:
        answer(exposition(found))
    else:
        print_metrics(found, console())
    return 0


def _serve(common: Common, port: int, host: str, since: timedelta, graph: str | None, most_steps: int) -> int:
    """Serve until a signal comes."""
    import asyncio

    from superstep.runtime.cli.render import complain
    from superstep.runtime.cli.session import open_threads, run_async
    from superstep.runtime.exposition.server import serving_metrics

    settings = common.settings()

    async def main(_: Stop) -> int:
        how = {"host": host, "since": since, "graph": graph, "most_steps": most_steps}
        async with open_threads(settings) as threads, serving_metrics(threads, port, **how) as found:  # type: ignore[arg-type]
            complain(f"Serving metrics on http://{host}:{found}/metrics")
            await asyncio.get_running_loop().create_future()
        return 0

    return run_async(main)
