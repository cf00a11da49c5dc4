"""`runtime db size` and `runtime db prune`: what threads take, and taking it back."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, Duration, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from superstep.checkpointer import Retention, Sizes, StoredThreads, Swept
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["prune", "size"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@click.command()
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many of the largest threads."
)
@json_option
@common_options
@pass_common
def size(common: Common, limit: int, as_json: bool) -> int:
    """Show how much room threads take: by table, by graph, and the largest ones.

    Of tables what the disk has, with indexes; of graphs and threads about what their rows take, by a sample if tables
    are large. With rules in [retention] of runtime.toml: what `runtime db prune` would free.
    """
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async

    settings = common.settings()
    rules = _rules(settings)

    async def main(_: Stop) -> tuple[Sizes, Swept | None]:
        async with _opened(settings, rules) as threads:
            free = await threads.asweep(rules, dry_run=True) if rules.each() else None
            return await threads.asizes(limit), free

    found, free = run_async(main)
    if as_json:
        print_json(_sizes_object(found, free))
    else:
        _print_sizes(found, free, console())
    return 0


@click.command()
@click.option(
    "--older-than", type=Duration(), help="Threads of any graph that have not changed for so long, such as 30d."
)
@click.option(
    "--keep-latest", is_flag=True, help="Keep the latest state of old threads, and delete only what came before."
)
@click.option("--also-interrupted", is_flag=True, help="Take threads too that wait for a human's answer.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and change nothing.")
@click.option("--yes", is_flag=True, help="Do it even if no thread is left.")
@json_option
@common_options
@pass_common
def prune(
    common: Common,
    older_than: timedelta | None,
    keep_latest: bool,
    also_interrupted: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Delete old threads, or their history.

    What is old is said by [retention] of runtime.toml, or by --older-than instead. It can run beside live flows: a
    thread that is run is not taken, nor one that waits for a human's answer.
    """
    from superstep.runtime.cli.render import print_json
    from superstep.runtime.cli.session import run_async
    from superstep.runtime.faults import InputInvalid
    from superstep.runtime.settings.retention import asked_for

    settings = common.settings()
    rules = asked_for(_rules(settings), ttl=older_than, keep_latest=keep_latest, also_interrupted=also_interrupted)
    if not rules.each():
        raise InputInvalid(
            "Nothing says which threads are old. Give --older-than 30d, or a ttl under [retention] in runtime.toml."
        )

    async def main(_: Stop) -> Swept:
        async with _opened(settings, rules) as threads:
            if not (dry_run or yes):
                would, all_threads = await threads.asweep(rules, dry_run=True), await threads.acount()
                if would.deleted and would.deleted == all_threads:
                    raise InputInvalid(
                        f"That would delete every thread there is ({all_threads}). Nothing was deleted. Look with "
                        f"--dry-run, and give --yes if it is meant."
                    )
            return await threads.asweep(rules, dry_run=dry_run)

    swept = run_async(main)
    if as_json:
        print_json({**swept._asdict(), "dry_run": dry_run})
    else:
        click.echo(_swept_text(swept, "Would free" if dry_run else "Freed"))
    return 0


def _rules(settings: CommandSettings) -> Retention:
    from superstep.runtime.settings.retention import retention

    return retention(settings.retention, settings.place)


@asynccontextmanager
async def _opened(settings: CommandSettings, rules: Retention) -> AsyncIterator[StoredThreads]:
    """The threads; with a saver's serializer only if a rule needs to read states, for that takes LangGraph."""
    from superstep.runtime.cli.session import open_saver, open_threads

    if any(rule.keep_latest for _, rule in rules.each()):
        async with open_saver(settings, prepare=False) as saver:
            yield saver
    else:
        async with open_threads(settings) as threads:
            yield threads


def _sizes_object(found: Sizes, free: Swept | None) -> dict[str, Any]:
    return {
        "tables": found.tables,
        "graphs": [{"graph": graph, "threads": threads, "bytes": taken} for graph, threads, taken in found.graphs],
        "threads": [each._asdict() for each in found.threads],
        "all_threads": found.all_threads,
        "sampled": found.sampled,
        "prune": free._asdict() if free is not None else None,
    }


def _print_sizes(found: Sizes, free: Swept | None, out: Any) -> None:
    from superstep.runtime.cli.render import moment, table

    rows: list[tuple[Any, ...]] = [(name, human(taken)) for name, taken in found.tables.items()]
    table([("table", ""), ("size", "right")], [*rows, ("all", human(sum(found.tables.values())))], out)
    if found.graphs:
        out.print()
        rows = [(graph or "(none)", threads, human(taken)) for graph, threads, taken in found.graphs]
        table([("graph", ""), ("threads", "right"), ("about", "right")], rows, out)
        out.print()
        rows = [(t.thread_id, t.graph or "", t.status, moment(t.updated_at), human(t.bytes)) for t in found.threads]
        head = [("largest threads", ""), ("graph", ""), ("status", "whole"), ("changed", "whole"), ("about", "right")]
        table(head, rows, out)
    if free is not None:
        out.print()
        out.print(_swept_text(free, "`runtime db prune` would free"), markup=False)


def _swept_text(swept: Swept, verb: str) -> str:
    what = [f"{swept.deleted} {_threads(swept.deleted)}"] if swept.deleted or not swept.shortened else []
    if swept.shortened:
        what.append(f"the history of {swept.shortened} {_threads(swept.shortened)}")
    return f"{verb} about {human(swept.bytes)}: {' and '.join(what)}."


def _threads(many: int) -> str:
    return "thread" if many == 1 else "threads"


def human(taken: int) -> str:
    """Bytes as people say it: 1023 bytes, 1.0 kB, 12 MB."""
    left, unit = float(taken), 0
    while left >= 1024 and unit < len(_UNITS) - 1:
        left, unit = left / 1024, unit + 1
    return f"{left:.0f} {_UNITS[unit]}" if unit == 0 or left >= 10 else f"{left:.1f} {_UNITS[unit]}"
