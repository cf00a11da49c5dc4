"""`runtime import`: threads of LangGraph's own Postgres saver."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import Imported
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["import_threads"]

REFUSED = 3  # exit code: threads were refused


@click.command("import")
@click.option("--from", "url", metavar="URL", help="Database with LangGraph's tables. Default: the database itself.")
@click.option("--from-schema", "source_schema", default="public", show_default=True, help="Schema of these tables.")
@click.option("--thread", "threads", metavar="ID", multiple=True, help="Only this thread. Repeatable.")
@click.option("--graph", metavar="GRAPH", help="Whose threads they are: it names their classes; resume finds it.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, and store nothing.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=200, show_default=True, help="Rows that are read and stored at once."
)
@json_option
@common_options
@pass_common
def import_threads(  # long: one command and its options
    common: Common,
    url: str | None,
    source_schema: str,
    threads: tuple[str, ...],
    graph: str | None,
    dry_run: bool,
    batch: int,
    as_json: bool,
) -> int:
    """Take over threads of LangGraph's AsyncPostgresSaver or PostgresSaver.

    Nothing is changed there. Each thread is stored as a whole or not at all, so the command may be stopped and
    repeated: what is here is left, what has come to a thread there since is added. Exit code 3: threads were refused,
    and are named.
    """
    from superstep.checkpointer import import_threads as taken_over
    from superstep.runtime.cli.imports.progress import ImportProgress
    from superstep.runtime.cli.imports.views import imported_object, print_imported
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import open_saver, run_async

    settings = common.settings(imports=graph is not None)

    async def main(_: Stop) -> Imported:
        async with (
            _graph(graph) as loaded,
            _address(url, settings) as source,
            open_saver(settings, prepare=not dry_run) as saver,
        ):
            with ImportProgress() as progress:
                return await taken_over(
                    saver,
                    source,
                    schema=source_schema,
                    threads=threads or None,
                    graph=loaded.compile() if loaded is not None else None,
                    name=loaded.name if loaded is not None else None,
                    batch=batch,
                    dry_run=dry_run,
                    told=progress.told,
                    counted=progress.counted,
                )

    done = run_async(main)
    if as_json:
        print_json(imported_object(done))
    else:
        print_imported(done, console())
    return REFUSED if done.refused else 0


@asynccontextmanager
async def _graph(spec: str | None) -> AsyncIterator[LoadedGraph | None]:
    """The graph, if one is named."""
    if spec is None:
        yield None
        return
    from superstep.runtime.loading.loader import load_graph

    loaded = await load_graph(spec)
    try:
        yield loaded
    finally:
        await loaded.aclose()


@asynccontextmanager
async def _address(url: str | None, settings: CommandSettings) -> AsyncIterator[str]:
    """Where LangGraph's tables are: as it was said, else where the runtime's are."""
    if (known := url or settings.database.url) is not None:
        yield known
        return
    import asyncio

    from superstep.checkpointer import EmbeddedServer

    server = await asyncio.to_thread(EmbeddedServer.acquire)
    try:
        yield server.url
    finally:
        server.close()
