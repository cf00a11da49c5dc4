"""`runtime memory`: what threads share for long. It reads and changes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from superstep.checkpointer import Memory
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["memory"]


def _moment(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    """Read a time of ISO 8601; one without a zone is of the local one."""
    if given is None:
        return None
    try:
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{given!r} is no time. Write 2026-11-27T09:30, or with its zone …+01:00.") from error


limit_option = click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
as_of_option = click.option("--as-of", metavar="TIME", callback=_moment, help="As it was then, in ISO 8601.")


@click.group()
@common_options
def memory() -> None:
    """Long-term memory: what threads share."""


@memory.command(name="list")
@click.argument("namespace", nargs=-1)
@limit_option
@click.option("--offset", type=click.IntRange(min=0), default=0, help="After how many.")
@as_of_option
@json_option
@common_options
@pass_common
def list_(
    common: Common, namespace: tuple[str, ...], limit: int, offset: int, as_of: datetime | None, as_json: bool
) -> int:
    """List items of NAMESPACE, given label by label, and below: the latest first."""
    found = _found(common.settings(), namespace, None, (limit, offset), as_of)
    _print(found, as_json=as_json)
    return 0


@memory.command()
@click.argument("words", nargs=-1, required=True, metavar="[NAMESPACE]... QUERY")
@limit_option
@as_of_option
@json_option
@common_options
@pass_common
def search(common: Common, words: tuple[str, ...], limit: int, as_of: datetime | None, as_json: bool) -> int:
    """Search items of NAMESPACE and below by meaning: the nearest to QUERY first.

    By the embedder "default" of [embeddings], which must be the one that the items were put with.
    """
    from superstep.runtime.settings.models import use_models
    from superstep.runtime.wiring import join

    settings = common.settings()
    use_models(settings)
    join()
    *namespace, query = words
    found = _found(settings, tuple(namespace), query, (limit, 0), as_of)
    _print(found, as_json=as_json)
    return 0


def _found(
    settings: CommandSettings,
    namespace: tuple[str, ...],
    query: str | None,
    page: tuple[int, int],
    as_of: datetime | None,
) -> list[Memory]:
    from superstep.runtime.cli.session import open_threads, run_async

    async def main(_: Stop) -> list[Any]:
        async with open_threads(settings) as stored:
            limit, offset = page
            return await stored.amemories(namespace, query=query, limit=limit, offset=offset, as_of=as_of)

    return run_async(main)


def _print(found: list[Memory], *, as_json: bool) -> None:
    from superstep.runtime.cli.memory.views import memory_object, print_memories
    from superstep.runtime.cli.render import console, print_json

    if as_json:
        print_json([memory_object(each) for each in found])
    else:
        print_memories(found, console())
