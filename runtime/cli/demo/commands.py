"""`runtime demo`: what goes wrong when state moves between agents, and what does not."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.runtime.cli.demo.measures import Numbers, Recorded
    from superstep.runtime.cli.demo.scenario import Scenario
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["demo"]

Sides = dict[str, "tuple[Recorded, Numbers]"]


@click.group()
@common_options
def demo() -> None:
    """Demonstrations: drift."""


def _in_a_folder(_: click.Context, __: click.Parameter, given: Path | None) -> Path | None:
    if given is not None and not given.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(given.absolute().parent)!r} to write it in.")
    return given


@demo.command()
@click.option("--flows", type=click.IntRange(1, 1000), default=24, show_default=True, help="How many race.")
@click.option("--accounts", type=click.IntRange(1, 1000), default=3, show_default=True, help="On how many accounts.")
@click.option(
    "--thinking",
    type=click.FloatRange(0, 10),
    default=0.3,
    show_default=True,
    metavar="SECONDS",
    help="How long a call of the model takes.",
)
@click.option(
    "--ttl",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the plain side's cache keeps a row; 0: no cache.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_in_a_folder,
    metavar="FILE.png",
    help="Also draw it. Needs the extra `plot`.",
)
@json_option
@common_options
@pass_common
def drift(
    common: Common, flows: int, accounts: int, thinking: float, ttl: float, plot: Path | None, as_json: bool
) -> int:
    """Show a race for credit lines, lost and won.

    The same flows run twice on real tables: a planner reads an account and asks a model, an executor draws, a reviewer
    books. First beside LangGraph's plain checkpointer with a cache in front of the database, then on Superstep. What
    went wrong is counted from what the database noted. Its tables stand in schemas of their own, which are dropped.

    Exit code 1 if Superstep's side is wrong.
    """
    from superstep.runtime.cli.demo.scenario import Scenario
    from superstep.runtime.cli.session import run_async, where

    if accounts > flows:
        raise click.UsageError("There must be at least as many flows as accounts.")
    settings = common.settings()
    if plot is not None:
        from superstep.runtime.cli.demo.plot import require

        require()
    scenario = Scenario(flows, accounts, thinking, ttl)

    async def main(_: Stop) -> Sides:
        return await _raced(scenario, settings, as_json=as_json)

    with _offline(quiet=not common.debug):
        sides = run_async(main)
    _show(scenario, sides, where(settings), plot, as_json=as_json)
    ours = sides["superstep"][1]
    return 0 if ours.right and ours.decided == flows else 1


@contextmanager
def _offline(*, quiet: bool) -> Iterator[None]:
    """Let every model of this process be the offline one, whatever keys and routes there are: nobody is to pay."""
    import logging

    from superstep.providers import configure
    from superstep.providers.catalog.from_env import catalog_from_env

    configure(catalog_from_env({}))
    log = logging.getLogger("superstep.providers.chat.call")
    level = log.level
    if quiet:
        # A call that a commit of another flow stops is recorded in the background, and not at all if its flow has begun
        # again by then, which is logged with a traceback. What is counted here is the model's own log.
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _show(scenario: Scenario, sides: Sides, place: str, plot: Path | None, *, as_json: bool) -> None:
    """Print and draw. A picture that cannot be written takes no table with it, and follows no JSON with an error."""
    from superstep.runtime.cli.demo.views import as_object, print_result
    from superstep.runtime.cli.render import console, print_json

    if not as_json:
        print_result(scenario, sides["plain"][1], sides["superstep"][1], place, console())
    if plot is not None:
        from superstep.runtime.cli.demo.plot import draw

        draw(plot, scenario, sides)
    if as_json:
        print_json(as_object(scenario, sides))
    elif plot is not None:
        click.echo(f"Drawn: {plot}")


async def _raced(scenario: Scenario, settings: CommandSettings, *, as_json: bool) -> Sides:
    from superstep.runtime.cli.demo import race
    from superstep.runtime.cli.demo.measures import numbers
    from superstep.runtime.cli.demo.progress import Board, Watch
    from superstep.runtime.cli.demo.views import titles
    from superstep.runtime.cli.render import console

    out = console(stderr=as_json)
    runs = {"plain": race.cached, "superstep": race.superstep}
    watches = {name: Watch(title, scenario) for name, title in titles(scenario).items()}
    sides: Sides = {}
    with Board(out, list(watches.values()), quiet=as_json and not out.is_terminal) as board:
        async with race.opened(scenario, settings) as arena:
            for name, run in runs.items():
                board.starts(watches[name])
                found = await run(arena, watches[name])
                board.ends(watches[name])
                sides[name] = (found, numbers(found))
    return sides
