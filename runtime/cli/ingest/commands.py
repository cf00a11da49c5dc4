"""`runtime ingest`: events into derived state, and a look at what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from superstep.runtime.cli.ingest.group import DEFAULT, WithDefault
from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from superstep.checkpointer import EventSource, Ingestion, LineSource, Pumped, StoredThreads
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["ingest"]

Result = TypeVar("Result")


@click.group(cls=WithDefault)
@common_options
def ingest() -> None:
    """Ingest events: `runtime ingest FILE…`, or one of the commands below. A file of their name is ./NAME.

    \b
      runtime ingest payments.jsonl                  a JSON object a line, with its type and time
      runtime ingest --format debezium changes.jsonl envelopes of Debezium
      runtime ingest --follow payments.jsonl         and what is appended
      producer | runtime ingest - --partition today  standard input
      runtime ingest --replica ledger --follow       changes of tables that `subscribe` replicates
    """  # noqa: D301 - click's mark of a paragraph that stays as it is


def _with_threads(
    settings: CommandSettings, work: Callable[[StoredThreads], Awaitable[Result]], *, prepare: bool = False
) -> Result:
    from superstep.runtime.cli.session import open_threads, run_async

    async def main(_: Stop) -> Result:
        async with open_threads(settings, prepare=prepare) as threads:
            return await work(threads)

    return run_async(main)


def _with_ingestion(settings: CommandSettings, work: Callable[[Ingestion], Awaitable[Result]]) -> Result:
    return _with_threads(settings, lambda threads: work(threads.ingestion))


async def _declared(ingestion: Ingestion, settings: CommandSettings) -> tuple[list[str], frozenset[str]]:
    """Declare what the settings file declares: which aggregates have to be rebuilt, which types are ignored."""
    from superstep.runtime.settings.derived import derived

    aggregates, ignore = derived(settings.derived, settings.place)
    return await ingestion.declare(*aggregates), ignore


@ingest.command(name=DEFAULT, hidden=True)
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--source", metavar="NAME", help='Name of the source. Default: "files", or the replica\'s.')
@click.option("--partition", metavar="NAME", help="Name of the one FILE, or of standard input. Default: its path.")
@click.option("--format", "kind", type=click.Choice(["jsonl", "debezium"]), default="jsonl", show_default=True)
@click.option("--type-path", metavar="PATH", default="type", show_default=True, help="Where an event's type is.")
@click.option("--time-path", metavar="PATH", default="at", show_default=True, help="Where its time is.")
@click.option("--id-path", metavar="PATH", help="Where an id of its own is; events of one id are one event.")
@click.option("--replica", metavar="NAME", help="Take changes of replicated tables, see `runtime ingest subscribe`.")
@click.option("--batch", metavar="N", type=click.IntRange(min=1), help="Events in one transaction. Default: 2000.")
@click.option("--follow", is_flag=True, help="Go on with what is appended, until interrupted.")
@json_option
@common_options
@pass_common
def files(common: Common, /, paths: tuple[Path, ...], as_json: bool, **given: Any) -> int:
    """Ingest files of events, each exactly once, from where ingestion stands.

    Each line is a JSON object with a type and a time, and whatever the aggregates in [derived] of runtime.toml look
    at. What cannot be ingested is quarantined, and ingestion goes on.
    """
    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.faults import ConfigError

    if bool(paths) == bool(given["replica"]):
        raise click.UsageError("Give FILEs, or - for standard input, or --replica NAME.")
    settings = common.settings()

    async def work(threads: StoredThreads) -> tuple[Pumped, list[str], list[str]]:
        outdated, ignore = await _declared(threads.ingestion, settings)
        if not await threads.ingestion.aggregates():
            raise ConfigError("No aggregate is declared, so no event is of a known type. Write [derived.NAME] first.")
        source = _source(threads, paths, given)
        done = await _pumped(threads.ingestion, source, given["batch"], ignore)
        return done, outdated, list(getattr(source, "unfinished", []))

    found = _with_threads(settings, work)
    if as_json:
        print_json(views.pumped_object(*found))
    else:
        views.print_pumped(*found, console())
    return 0


def _source(threads: StoredThreads, paths: tuple[Path, ...], given: dict[str, Any]) -> LineSource | EventSource:
    from superstep.checkpointer import Format, LineSource, Replica

    if given["replica"]:
        return Replica(threads.database).source(given["replica"], follow=given["follow"])
    form = Format(given["kind"], given["type_path"], given["time_path"], given["id_path"])
    name = given["source"] or "files"
    return LineSource(name, paths, form, partition=given["partition"], follow=given["follow"])


async def _pumped(ingestion: Ingestion, source: Any, batch: int | None, ignore: frozenset[str]) -> Pumped:
    from superstep.checkpointer import BATCH, pump
    from superstep.runtime.cli.ingest.progress import IngestProgress

    total = source.size() if hasattr(source, "size") else None
    read = (lambda: int(source.read)) if hasattr(source, "read") else None
    with IngestProgress("ingesting", total, read) as progress:
        return await pump(ingestion, source, batch=batch or BATCH, ignore=ignore, progress=progress.pumped)


@ingest.command()
@json_option
@common_options
@pass_common
def status(common: Common, as_json: bool) -> int:
    """Show of each partition how far it is ingested, and of each aggregate whether it can be read."""
    from superstep.checkpointer import Replica
    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json

    async def work(threads: StoredThreads) -> Any:
        ingestion = threads.ingestion
        replicas = await Replica(threads.database).status()
        return await ingestion.point(), await ingestion.partitions(), await ingestion.aggregates(), replicas

    point, partitions, aggregates, replicas = _with_threads(common.settings(), work)
    if as_json:
        print_json(views.status_object(point, partitions, aggregates, replicas))
    else:
        views.print_status(partitions, aggregates, replicas, console())
    return 0


@ingest.command()
@json_option
@common_options
@pass_common
def quarantine(common: Common, as_json: bool) -> int:
    """List what could not be ingested, with why."""
    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json

    async def work(ingestion: Ingestion) -> Any:
        return [each async for each in ingestion.quarantine()]

    found = _with_ingestion(common.settings(), work)
    if as_json:
        print_json([views.quarantined_object(each) for each in found])
    else:
        views.print_quarantine(found, console())
    return 0


@ingest.command()
@click.option("--accept-schema", is_flag=True, help="Take changed columns of a table for its columns from now on.")
@json_option
@common_options
@pass_common
def replay(common: Common, accept_schema: bool, as_json: bool) -> int:
    """Ingest again what is in quarantine. What still cannot be ingested stays there."""
    from dataclasses import asdict

    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json

    settings = common.settings()

    async def work(ingestion: Ingestion) -> Any:
        _, ignore = await _declared(ingestion, settings)
        return await ingestion.replay(accept_schema=accept_schema, ignore=ignore)

    counts = _with_ingestion(settings, work)
    if as_json:
        print_json(asdict(counts))
    else:
        views.print_replayed(counts, console())
    return 0


@ingest.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def rebuild(common: Common, names: tuple[str, ...], as_json: bool) -> int:
    """Build aggregates anew from the events that are kept, as runtime.toml declares them now."""
    from superstep.runtime.cli.ingest.progress import IngestProgress
    from superstep.runtime.cli.render import console, count, print_json

    settings = common.settings()

    async def work(ingestion: Ingestion) -> dict[str, int]:
        await _declared(ingestion, settings)
        built = {}
        for name in names:
            with IngestProgress(name, 1) as progress:
                built[name] = await ingestion.rebuild(name, progress.reached)
        return built

    built = _with_ingestion(settings, work)
    if as_json:
        print_json(built)
    else:
        for name, events in built.items():
            console().print(f"{name}: built from {count(events, 'event')}", soft_wrap=True)
    return 0


@ingest.command()
@click.argument("name")
@json_option
@common_options
@pass_common
def drop(common: Common, name: str, as_json: bool) -> int:
    """Delete the aggregate NAME. The events stay; take it out of runtime.toml too, or it is declared again."""
    from superstep.runtime.cli.render import console, print_json

    _with_ingestion(common.settings(), lambda ingestion: ingestion.drop(name))
    if as_json:
        print_json({"dropped": name})
    else:
        console().print(f"{name} is deleted.", soft_wrap=True)
    return 0


@ingest.command()
@click.argument("name")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=1000, show_default=True)
@json_option
@common_options
@pass_common
def late(common: Common, name: str, limit: int, as_json: bool) -> int:
    """List events that came too late for the aggregate NAME."""
    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json

    found = _with_ingestion(common.settings(), lambda ingestion: ingestion.late(name, limit))
    if as_json:
        print_json([views.late_object(each) for each in found])
    else:
        views.print_late(found, console())
    return 0


def _moment(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    from datetime import datetime

    try:
        found = datetime.fromisoformat(given) if given is not None else None
    except ValueError:
        raise click.BadParameter(f"{given!r} is no moment. Write 2026-01-31T12:00:00+00:00.") from None
    return found.astimezone() if found is not None else None


@ingest.command()
@click.argument("name")
@click.argument("key", nargs=-1, required=True)
@click.option("--at", callback=_moment, metavar="MOMENT", help="The window that has it. Default: the latest.")
@json_option
@common_options
@pass_common
def show(common: Common, name: str, key: tuple[str, ...], at: datetime | None, as_json: bool) -> int:
    """Show what the aggregate NAME says of a KEY; one of several parts is given part by part."""
    from superstep.runtime.cli.ingest import views
    from superstep.runtime.cli.render import console, print_json

    found = _with_ingestion(common.settings(), lambda ingestion: ingestion.signal(name, key, at=at))
    if as_json:
        print_json(views.signal_object(found))
    else:
        views.print_signal(found, console())
    return 0


@ingest.command()
@click.argument("name")
@click.argument("url")
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True)
@click.option("--time-column", metavar="COLUMN", help="Has an event's time. Default: when the change arrives here.")
@json_option
@common_options
@pass_common
def subscribe(
    common: Common, name: str, url: str, tables: tuple[str, ...], time_column: str | None, as_json: bool
) -> int:
    """Replicate TABLEs of the PostgreSQL at URL here, as the source NAME: each change of a row becomes an event.

    Needs wal_level = logical there, and a role that may subscribe here. Repeated, it takes new columns over.
    """
    from superstep.checkpointer import Replica
    from superstep.runtime.cli.render import console, print_json

    async def work(threads: StoredThreads) -> None:
        await Replica(threads.database).subscribe(name, url, tables, time_column=time_column)

    _with_threads(common.settings(), work)
    if as_json:
        print_json({"replica": name, "tables": list(tables)})
    else:
        console().print(f"{name} is replicated. Ingest it with: runtime ingest --replica {name} --follow")
    return 0


@ingest.command()
@click.argument("name")
@json_option
@common_options
@pass_common
def unsubscribe(common: Common, name: str, as_json: bool) -> int:
    """End the replication of the source NAME. Its tables and events stay."""
    from superstep.checkpointer import Replica
    from superstep.runtime.cli.render import console, print_json

    _with_threads(common.settings(), lambda threads: Replica(threads.database).unsubscribe(name))
    if as_json:
        print_json({"unsubscribed": name})
    else:
        console().print(f"{name} is not replicated any more.")
    return 0
