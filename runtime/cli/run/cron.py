"""`runtime cron`: runs that are submitted again and again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common
from superstep.runtime.cli.run.commands import RunRequest, context_option

if TYPE_CHECKING:
    from datetime import datetime

    from superstep.checkpointer import Schedule

__all__ = ["cron"]


@click.group()
@common_options
def cron() -> None:
    """Runs that are submitted again and again. Workers see to it."""


@cron.command()
@click.argument("name")
@click.argument("graph")
@click.option(
    "--schedule",
    "expression",
    metavar="CRON",
    required=True,
    help='Five fields, such as "0 9 * * MON": when to submit.',
)
@click.option("--timezone", metavar="ZONE", default="UTC", help="Whose clock that is about, such as Europe/Berlin.")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="Input. Default: the graph's example_input.")
@click.option(
    "--catch-up",
    type=click.Choice(["none", "one", "all"]),
    default="one",
    show_default=True,
    help="What makes up for times at which no worker ran: no run, one, or one for each, of the latest 100.",
)
@click.option("--tenant", metavar="NAME", default="", help="Who the runs are for. Tenants take turns.")
@context_option
@json_option
@common_options
@pass_common
def add(
    common: Common, /, name: str, expression: str, timezone: str, catch_up: str, tenant: str, **options: Any
) -> int:
    """Submit a run of GRAPH at each time of a schedule.

    Each on a new thread. NAME is for you to remove it by.
    """
    from superstep.checkpointer import Schedule
    from superstep.runtime.cli.render import moment, print_json
    from superstep.runtime.cli.session import run_async

    request = RunRequest(common, thread=None, **options)
    wanted = Schedule(name, "", expression, timezone, catch_up, tenant)
    first = run_async(lambda _: _add(request, wanted))
    if request.as_json:
        print_json({"name": name, "next_tick": first})
    else:
        click.echo(f"{name}: first at {moment(first)}")
    return 0


async def _add(request: RunRequest, wanted: Schedule) -> datetime:
    from dataclasses import replace

    from superstep.runtime.cli.run.inputs import require_fields
    from superstep.runtime.cli.run.submit import asked
    from superstep.runtime.cli.session import open_saver

    async with asked(request) as (settings, loaded, given):
        graph = loaded.compile()
        require_fields(given.input, graph, loaded.name)
        async with open_saver(settings, prepare=True) as saver:
            return await saver.of_graph(graph).schedules.add(replace(wanted, graph=loaded.name), given)


@cron.command(name="list")
@json_option
@common_options
@pass_common
def list_(common: Common, as_json: bool) -> int:
    """List the schedules, with the next time of each."""
    from superstep.runtime.cli.render import console, moment, print_json, table
    from superstep.runtime.cli.session import ask_threads

    found = ask_threads(common.settings(), lambda stored: stored.schedules.list())
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        columns = [
            ("name", ""),
            ("graph", ""),
            ("schedule", "whole"),
            ("zone", ""),
            ("catch up", ""),
            ("next", "whole"),
        ]
        rows = [(s.name, s.graph, s.expression, s.timezone, s.catch_up, moment(s.next_tick)) for s in found]
        table(columns, rows, console())
    else:
        console().print('No schedules. Add one with: runtime cron add NAME GRAPH --schedule "0 9 * * MON"')
    return 0


@cron.command()
@click.argument("name")
@json_option
@common_options
@pass_common
def remove(common: Common, name: str, as_json: bool) -> int:
    """Submit no more runs of a schedule. Those that were submitted stay."""
    from superstep.runtime.cli.render import print_json
    from superstep.runtime.cli.session import ask_threads
    from superstep.runtime.faults import ConfigError

    if not ask_threads(common.settings(), lambda stored: stored.schedules.remove(name)):
        raise ConfigError(f"There is no schedule {name!r}. List them with: runtime cron list")
    if as_json:
        print_json({"name": name, "removed": True})
    return 0
