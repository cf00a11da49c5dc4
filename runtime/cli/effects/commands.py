"""`runtime effects`: listing effects, and deciding about those that need a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep.checkpointer import Outbox

__all__ = ["effects"]


@click.group()
@common_options
def effects() -> None:
    """Effects: what commits have decided is to happen outside of the database."""


@effects.command(name="list")
@click.option("--dead", is_flag=True, help="Only those that were given up.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option("--before", type=int, metavar="NUMBER", help="Only older ones: the number of the last one shown.")
@json_option
@common_options
@pass_common
def list_(common: Common, dead: bool, limit: int, before: int | None, as_json: bool) -> int:
    """List effects, the latest first."""
    from superstep.runtime.cli.effects.views import effect_object, print_effects
    from superstep.runtime.cli.render import console, print_json

    found = _with_outbox(common, lambda outbox: outbox.effects(dead=dead, before=before, limit=limit))
    if as_json:
        print_json([effect_object(each) for each in found])
    else:
        print_effects(found, console(), dead=dead)
    return 0


@effects.command()
@click.argument("effect_id", metavar="ID")
@json_option
@common_options
@pass_common
def retry(common: Common, effect_id: str, as_json: bool) -> int:
    """Have an effect that was given up delivered (or undone) after all, by a worker."""
    return _changed(common, effect_id, lambda outbox: outbox.retry(effect_id), as_json=as_json)


@effects.command()
@click.argument("effect_id", metavar="ID")
@json_option
@common_options
@pass_common
def drop(common: Common, effect_id: str, as_json: bool) -> int:
    """Never deliver an effect; those behind it in its line pass."""
    return _changed(common, effect_id, lambda outbox: outbox.drop(effect_id), as_json=as_json)


@effects.command()
@click.argument("effect_id", metavar="ID")
@json_option
@common_options
@pass_common
def undo(common: Common, effect_id: str, as_json: bool) -> int:
    """Have a delivered effect compensated by the `undo` of its handler, by a worker."""
    return _changed(common, effect_id, lambda outbox: outbox.undo(effect_id), as_json=as_json)


def _changed(common: Common, effect_id: str, change: Callable[[Outbox], Awaitable[str]], *, as_json: bool) -> int:
    from superstep.runtime.cli.render import console, print_json

    state = _with_outbox(common, change)
    if as_json:
        print_json({"id": effect_id, "state": state})
    else:
        console().print(f"{effect_id} is {state} now.")
    return 0


def _with_outbox(common: Common, ask: Callable[[Outbox], Awaitable[Any]]) -> Any:
    from superstep.runtime.cli.session import ask_threads

    return ask_threads(common.settings(), lambda stored: ask(stored.outbox))
