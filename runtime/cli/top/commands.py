"""`runtime top`: what goes on, as it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from superstep.checkpointer import Activity, StoredThreads
    from superstep.runtime.cli.session import Stop

__all__ = ["top"]

_SHARE = 4  # of the time at least so many parts are pauses: a busy database is not asked all the time


@click.command()
@click.option("--once", is_flag=True, help="Show what goes on now, and end.")
@click.option(
    "--every", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds from look to look."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many flows.")
@json_option
@common_options
@pass_common
def top(common: Common, once: bool, every: float, limit: int, as_json: bool) -> int:
    """Watch the flows that run now, conflicts, and what models cost.

    Refreshed until Ctrl-C. What the columns mean: docs/telemetry.md.
    """
    if as_json and not once:
        raise click.UsageError("--json shows one moment: give --once too.")
    from superstep.runtime.cli.session import open_threads, run_async

    settings = common.settings()

    async def main(_: Stop) -> int:
        async with open_threads(settings) as threads:
            if once:
                _show(await threads.aactivity(limit), as_json=as_json)
            else:
                await _watch(threads, every, limit)
        return 0

    return run_async(main)


def _show(found: Activity, *, as_json: bool) -> None:
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.top.views import activity_object, lines

    if as_json:
        print_json(activity_object(found))
        return
    out = console()
    for each in lines(found, out):
        out.print(each, soft_wrap=True)


async def _watch(threads: StoredThreads, every: float, limit: int) -> None:
    """Refresh until cancelled: in place on a terminal, else block after block."""
    import asyncio

    from rich.console import Group
    from rich.live import Live

    from superstep.runtime.cli.render import console
    from superstep.runtime.cli.top.views import lines

    out = console()
    if not out.is_terminal:
        while True:
            found = await threads.aactivity(limit)
            for each in lines(found, out):
                out.print(each, soft_wrap=True)
            await asyncio.sleep(every)
    with Live(console=out, auto_refresh=False, transient=False, vertical_overflow="ellipsis") as live:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            found = await threads.aactivity(limit)
            took = loop.time() - asked
            live.update(Group(*lines(found, out)), refresh=True)
            await asyncio.sleep(max(every - took, took * _SHARE))
