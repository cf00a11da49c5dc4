"""`runtime prompts`: versions of prompts, and the labels that running flows follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep.prompts import Move, PromptStore, Version
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["prompts"]

Result = TypeVar("Result")

label_option = click.option("--label", metavar="LABEL", default="production", show_default=True, help="Which label.")
version_options = (
    click.option("--version", "number", type=click.IntRange(min=1), metavar="N", help="This version."),
    click.option("--label", metavar="LABEL", help="The version that LABEL points at."),
)


def _share(_: click.Context, __: click.Parameter, given: str | None) -> float | None:
    """Read a share of threads, `10%` or `0.1`, as a number from 0 to 1."""
    if given is None:
        return None
    text = given.strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{given!r} is not a share of threads. Write 10%, or 0.1.")
    return share


@click.group()
@common_options
def prompts() -> None:
    """Prompts: versions, labels, golden cases."""


def _with_store(settings: CommandSettings, work: Callable[[PromptStore], Awaitable[Result]]) -> Result:
    from superstep.prompts import PromptStore
    from superstep.runtime.cli.session import open_threads, run_async

    async def main(_: Stop) -> Result:
        async with open_threads(settings) as database:
            return await work(PromptStore(database.transaction, database.schema))

    return run_async(main)


def _found(settings: CommandSettings, name: str, number: int | None, label: str | None) -> Version:
    if number is not None and label is not None:
        raise click.UsageError("Give --version or --label, not both.")
    return _with_store(settings, lambda store: store.version(name, version=number, label=label))


@prompts.command(name="list")
@click.argument("name", required=False)
@json_option
@common_options
@pass_common
def list_(common: Common, name: str | None, as_json: bool) -> int:
    """List prompts with their labels, or the versions of the prompt NAME."""
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.render import console, print_json

    settings = common.settings()
    if name is None:
        found = _with_store(settings, lambda store: store.prompts())
        if as_json:
            print_json([views.summary_object(each) for each in found])
        else:
            views.print_prompts(found, console())
        return 0
    versions = _with_store(settings, lambda store: store.versions(name))
    if as_json:
        print_json([views.version_object(each) for each in versions])
    else:
        views.print_versions(versions, console())
    return 0


@prompts.command()
@click.argument("name")
@version_options[0]
@version_options[1]
@json_option
@common_options
@pass_common
def show(common: Common, name: str, number: int | None, label: str | None, as_json: bool) -> int:
    """Show what a version of the prompt NAME says, by default the latest."""
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.render import console, print_json

    found = _found(common.settings(), name, number, label)
    if as_json:
        print_json(views.full_object(found))
    else:
        views.print_version(found, console())
    return 0


@prompts.command()
@click.argument("name")
@click.argument("before", metavar="FROM")
@click.argument("after", metavar="TO")
@json_option
@common_options
@pass_common
def diff(common: Common, name: str, before: str, after: str, as_json: bool) -> int:
    """Compare two versions of the prompt NAME. FROM and TO are numbers or labels."""
    from superstep.prompts import differences
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.render import console, print_json

    async def both(store: PromptStore) -> list[Version]:
        return [
            await (store.version(name, version=int(each)) if each.isdecimal() else store.version(name, label=each))
            for each in (before, after)
        ]

    old, new = _with_store(common.settings(), both)
    titles = (f"{name}@{old.version}", f"{name}@{new.version}")
    lines = differences(old.content, new.content, titles)
    if as_json:
        print_json({"name": name, "from": old.version, "to": new.version, "lines": lines})
    else:
        views.print_differences(lines, console())
    return 0


@prompts.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--label", metavar="LABEL", help="Also point LABEL at what the files say.")
@json_option
@common_options
@pass_common
def add(common: Common, paths: tuple[Path, ...], label: str | None, as_json: bool) -> int:
    """Bring prompt files into the database: folders and files, by default the folder prompts/.

    Files whose content is there already make no new version. All of them are added, or none. A prompt is called by its
    path below the folder. It is a TOML file, or a Markdown file such as this one:

    \b
        ---
        route: fast
        variables: {account: object, note: {type: str, default: ""}}
        ---
        system:
        Be brief. {% include "shared/law.md" %}
        user:
        Is {{ account }} in order? {{ note }}
    """  # noqa: D301 - click's mark of a paragraph that stays as it is
    from superstep.prompts import read_prompts
    from superstep.prompts.files.folder import FOLDER
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.render import console, print_json

    settings = common.settings()
    drafts = read_prompts(paths or [FOLDER])
    added = _with_store(settings, lambda store: store.add(drafts, label=label))
    if as_json:
        print_json([views.added_object(each) for each in added])
    else:
        views.print_added(added, console())
    return 0


@prompts.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@label_option
@click.option(
    "--weight", callback=_share, metavar="SHARE", help="Of a canary: share of threads that get it, 10% or 0.1."
)
@json_option
@common_options
@pass_common
def promote(common: Common, name: str, version: int, label: str, weight: float | None, as_json: bool) -> int:
    """Point a label at VERSION of the prompt NAME. Running flows follow from their next super-step on.

    The label canary has a share: that many threads get it, always the same ones, where they would get production.
    """

    async def work(store: PromptStore) -> Any:
        return await store.promote(name, version, label=label, weight=weight)

    _show_move(_with_store(common.settings(), work), as_json=as_json)
    return 0


def _show_move(move: Move, *, as_json: bool) -> None:
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.render import console, print_json

    if as_json:
        print_json(views.move_object(move))
    else:
        views.print_move(move, console())


@prompts.command()
@click.argument("name")
@label_option
@json_option
@common_options
@pass_common
def rollback(common: Common, name: str, label: str, as_json: bool) -> int:
    """Point a label of the prompt NAME at what it pointed at before. Repeated, it goes further back."""
    _show_move(_with_store(common.settings(), lambda store: store.rollback(name, label=label)), as_json=as_json)
    return 0


@prompts.command()
@click.argument("name")
@version_options[0]
@version_options[1]
@click.option("--route", metavar="ROUTE", help="Ask this route instead of the version's own.")
@json_option
@common_options
@pass_common
def test(common: Common, name: str, number: int | None, label: str | None, route: str | None, as_json: bool) -> int:
    """Ask a model the golden cases of a version of NAME, by default the latest, and check its answers.

    The exit code is 0 if all of them pass, else 1.
    """
    from superstep.runtime.cli.prompts import views
    from superstep.runtime.cli.prompts.golden import compare, run_cases
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async
    from superstep.runtime.loading.project import read_project
    from superstep.runtime.settings.models import use_models

    settings = common.settings(imports=True)
    use_models(settings)
    read_project().make_importable()  # a deployment may name a class of the project
    found = _found(settings, name, number, label)
    results = compare(run_async(lambda _: run_cases(found, route)))
    if as_json:
        print_json(views.results_object(found, results))
    else:
        views.print_results(found, results, console())
    return 0 if all(each.passed for each in results) else 1
