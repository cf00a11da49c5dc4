"""`runtime collection`: making collections of files, searching, listing, indexing and dropping them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common
from superstep.runtime.faults import InputInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import Collection, Collections
    from superstep.runtime.cli.collections.adding import Added
    from superstep.runtime.cli.collections.files import Chunking
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["collection"]


@click.group()
@common_options
def collection() -> None:
    """Collections: texts that flows search by meaning."""


@asynccontextmanager
async def _opened(settings: CommandSettings, *, prepare: bool = False) -> AsyncIterator[Collections]:
    from superstep.runtime.cli.session import open_threads
    from superstep.runtime.settings.models import use_models
    from superstep.runtime.wiring import join

    join()
    use_models(settings)
    async with open_threads(settings, prepare=prepare) as threads:
        yield threads.collections


def _object(what: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as e:
        raise InputInvalid(f"{what} is no JSON.") from e
    if not isinstance(value, dict):
        raise InputInvalid(f'{what} takes a JSON object, such as {{"tenant": "a"}}.')
    return value


@collection.command()
@click.argument("name")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sync", is_flag=True, help="Also delete what came from files below PATH that are not there any more.")
@click.option("--metadata", metavar="JSON", help="What each document gets beside its source.")
@click.option("--chunk", type=click.IntRange(min=50), default=1000, show_default=True, help="Characters of a piece.")
@click.option("--overlap", type=click.IntRange(min=0), default=150, show_default=True, help="Shared by two pieces.")
@click.option("--precision", type=click.Choice(["full", "half"]), default="full", help="Of a new collection.")
@click.option("--language", metavar="NAME", default="simple", help="Of a new collection's full-text search: english, …")
@json_option
@common_options
@pass_common
def add(
    common: Common,
    name: str,
    paths: tuple[Path, ...],
    sync: bool,
    metadata: str | None,
    chunk: int,
    overlap: int,
    precision: str,
    language: str,
    as_json: bool,
) -> int:
    """Bring files and folders into the collection NAME, which is made if need be.

    Texts (Markdown, HTML, source code, anything in UTF-8) are cut into pieces. What has not changed since the last time
    is not embedded again; pieces that a file has no more go. Dumps of other stores of vectors, *.jsonl and *.parquet,
    bring a document a row: content, and if there are id, metadata, embedding.
    """
    from superstep.runtime.cli.collections import views
    from superstep.runtime.cli.collections.files import Chunking
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    if overlap >= chunk:
        raise click.UsageError("--overlap must be less than --chunk.")
    settings = common.settings()
    chunking = Chunking(chunk, overlap, _object("--metadata", metadata) or {})
    shape = {"precision": precision, "language": language}

    async def main(_: Stop) -> tuple[Added, bool]:
        async with _opened(settings, prepare=True) as collections:
            target = await _target(collections, name, paths, shape)
            return await _add(target, paths, chunking, sync=sync)

    added, indexed = run_async(main)
    if as_json:
        print_json(views.added_object(name, added, indexed=indexed))
    else:
        views.print_added(name, added, console(), indexed=indexed)
    return 0


async def _target(collections: Collections, name: str, paths: tuple[Path, ...], shape: dict[str, Any]) -> Collection:
    """The collection, which is made for the vectors of a dump that brings some, or else of the embedder."""
    import asyncio

    from superstep.runtime.cli.collections.adding import dimensions_of_dumps

    found = await collections.find(name)
    if found is not None:
        return found
    dimensions = await asyncio.to_thread(dimensions_of_dumps, paths) or await collections.dimensions()
    return await collections.create(name, dimensions=dimensions, **shape)


async def _add(target: Collection, paths: tuple[Path, ...], chunking: Chunking, *, sync: bool) -> tuple[Added, bool]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from superstep.runtime.cli.collections.adding import add_paths
    from superstep.runtime.cli.render import console
    from superstep.runtime.settings.shown import safe

    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task(target.name, total=None)

        def advance(path: str, number: int, of: int) -> None:
            progress.update(bar, description=safe(path or target.name), completed=number, total=of)

        added = await add_paths(target, paths, chunking, sync=sync, advance=advance)
        progress.update(bar, description="index, if it pays")
        indexed = target.definition.dimensions <= target.definition.most_indexed and await target.index()
    return added, indexed


@collection.command()
@click.argument("name")
@click.argument("query")
@click.option("-k", "k", type=click.IntRange(min=1), default=4, show_default=True, help="How many at most.")
@click.option("--filter", "given", metavar="JSON", help='On metadata: {"tenant": "a", "year": {"$gte": 2024}}.')
@click.option("--hybrid", is_flag=True, help="Look for the words too, and rank by both.")
@json_option
@common_options
@pass_common
def search(common: Common, name: str, query: str, k: int, given: str | None, hybrid: bool, as_json: bool) -> int:
    """Search the collection NAME for what is nearest to QUERY. Smaller distances are nearer."""
    from superstep.runtime.cli.collections import views
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings()
    filter_ = _object("--filter", given)

    async def main(_: Stop) -> list[dict[str, Any]]:
        async with _opened(settings) as collections:
            target = await collections.get(name)
            rows = await target.search(query, k=k, filter=filter_, hybrid=hybrid)
            return [{**dict(row), "metadata": target.metadata(row)} for row in rows]

    rows = run_async(main)
    if as_json:
        print_json(rows)
    else:
        views.print_found(rows, console())
    return 0


@collection.command(name="list")
@json_option
@common_options
@pass_common
def list_(common: Common, as_json: bool) -> int:
    """List collections, with their rows and their size."""
    from superstep.runtime.cli.collections import views
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings()

    async def main(_: Stop) -> list[dict[str, Any]]:
        async with _opened(settings) as collections:
            return await collections.all()

    found = run_async(main)
    if as_json:
        print_json(found)
    else:
        views.print_collections(found, console())
    return 0


@collection.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="However few rows there are.")
@json_option
@common_options
@pass_common
def index(common: Common, name: str, force: bool, as_json: bool) -> int:
    """Build the index of the collection NAME if it pays (10,000 rows). Flows go on meanwhile."""
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings()

    async def main(_: Stop) -> bool:
        async with _opened(settings) as collections:
            return await (await collections.get(name)).index(force=force)

    indexed = run_async(main)
    if as_json:
        print_json({"collection": name, "indexed": indexed})
    else:
        console().print(f"{name}: {'indexed' if indexed else 'no index: searches look at all rows, which are few'}")
    return 0


@collection.command()
@click.argument("name")
@json_option
@common_options
@pass_common
def drop(common: Common, name: str, as_json: bool) -> int:
    """Drop the collection NAME, with all that is in it. Steps that have searched it run again."""
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings()

    async def main(_: Stop) -> None:
        async with _opened(settings) as collections:
            await collections.get(name)  # names what is wrong if there is none
            await collections.drop(name)

    run_async(main)
    if as_json:
        print_json({"collection": name, "dropped": True})
    else:
        console().print(f"{name}: dropped")
    return 0
