"""`runtime threads`, `history`, `show` and `graph`: they read and change nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, Duration, common_options, json_option, pass_common

if TYPE_CHECKING:
    from datetime import timedelta

    from superstep.runtime.cli.session import Stop

__all__ = ["graph", "history", "show", "threads"]


@click.group(invoke_without_command=True)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, latest first.")
@click.option("--after", metavar="THREAD", help="Only those that come after this one: the last of the page before.")
@click.option("--parked", is_flag=True, help="Only those with unfinished work that nobody is running.")
@click.option("--graph", metavar="NAME", help="Only those of this graph.")
@click.option("--version", metavar="VERSION", help="Only those that were run last with this version of their graph.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="Only those unchanged for so long, such as 3d.")
@json_option
@common_options
@pass_common
@click.pass_context
def threads(context: click.Context, common: Common, /, **options: Any) -> int:
    """List threads, the one that changed last first; or resume, cancel or fork many."""
    return _listed(common, **options) if context.invoked_subcommand is None else 0


def _listed(
    common: Common,
    limit: int,
    after: str | None,
    parked: bool,
    graph: str | None,
    version: str | None,
    older_than: timedelta | None,
    as_json: bool,
) -> int:
    from superstep.checkpointer import Chosen
    from superstep.runtime.cli.inspect.views import print_threads
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import open_threads, run_async
    from superstep.runtime.cli.threads import thread_summary

    settings = common.settings()
    chosen = Chosen(graph, version, None, older_than, parked)

    async def main(_: Stop) -> list[Any]:
        async with open_threads(settings) as stored:
            last = await thread_summary(stored, after, settings) if after is not None else None
            if chosen == Chosen():
                return list(await stored.athreads(limit, after=last))
            return list(await stored.achosen(chosen, limit, after=last))

    found = run_async(main)
    if as_json:
        print_json([asdict(thread) for thread in found])
    else:
        print_threads(found, console(), versions=parked or version is not None, some=chosen != Chosen())
    return 0


@click.command()
@click.argument("thread")
@click.option("--limit", type=click.IntRange(min=1), help="Only the latest, so many.")
@json_option
@common_options
@pass_common
def history(common: Common, thread: str, limit: int | None, as_json: bool) -> int:
    """Show the super-steps of THREAD.

    In the order they committed. What the columns mean: docs/flows.md.
    """
    from superstep.runtime.cli.inspect.views import print_history
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import open_threads, run_async
    from superstep.runtime.cli.threads import thread_summary

    settings = common.settings()

    async def main(_: Stop) -> list[dict[str, Any]]:
        async with open_threads(settings) as stored:
            summary = await thread_summary(stored, thread, settings)
            return [asdict(step) for step in await stored.asteps(summary.thread_id, limit)]

    steps = run_async(main)
    if as_json:
        print_json(steps)
    else:
        print_history(steps, console())
    return 0


@click.command()
@click.argument("thread")
@click.option("--checkpoint", metavar="ID", help="A checkpoint of the thread instead of the latest.")
@json_option
@common_options
@pass_common
def show(common: Common, thread: str, checkpoint: str | None, as_json: bool) -> int:
    """Show the state of THREAD.

    Its values, what runs next, and what it waits for.
    """
    from superstep.runtime.cli.inspect.state import described_state
    from superstep.runtime.cli.inspect.views import print_state
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import open_saver, run_async
    from superstep.runtime.cli.threads import full_checkpoint, thread_summary

    settings = common.settings()

    async def main(_: Stop) -> dict[str, Any]:
        async with open_saver(settings, prepare=False) as saver:
            summary = await thread_summary(saver, thread, settings)
            at = await full_checkpoint(saver, summary.thread_id, checkpoint) if checkpoint else None
            return await described_state(saver, summary, at)

    state = run_async(main)
    if as_json:
        print_json(state)
    else:
        print_state(state, console())
    return 0


@click.command()
@click.argument("graph")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["mermaid", "ascii", "png"]),
    default="mermaid",
    show_default=True,
    help="png is drawn by pygraphviz if that is installed, else by the web service mermaid.ink.",
)
@click.option("-o", "--output", metavar="FILE", help="Write to a file instead of standard output.")
@json_option
@common_options
@pass_common
def graph(common: Common, graph: str, kind: str, output: str | None, as_json: bool) -> int:
    """Draw GRAPH. No database is needed."""
    import asyncio
    import sys
    from pathlib import Path

    from superstep.runtime.cli.inspect.drawing import draw
    from superstep.runtime.cli.render import answer, print_json, reserve_stdout
    from superstep.runtime.loading.loader import load_graph

    del common
    if kind == "png" and output is None and not as_json and sys.stdout.isatty():
        raise click.UsageError("A picture does not fit a terminal: add --output FILE, or redirect the output.")
    reserve_stdout()  # for the picture: what the graph's module prints is none of it

    async def main() -> tuple[str, bytes]:
        loaded = await load_graph(graph)
        try:
            return loaded.name, draw(loaded.compile(), kind)
        finally:
            await loaded.aclose()

    name, picture = asyncio.run(main())
    if output is not None:
        Path(output).write_bytes(picture)
    if as_json:
        shown = None if output is not None else picture if kind == "png" else picture.decode()
        print_json({"graph": name, "format": kind, "output": output, "picture": shown})
    elif output is None:
        answer(picture)
    return 0
