"""`runtime threads resume`, `cancel` and `fork`: the same for many parked threads, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from superstep.checkpointer import Chosen, ThreadSummary, TransactionalSaver
    from superstep.runtime.cli.session import Stop

__all__ = ["cancel", "fork", "resume"]

KEYS = ("graph", "status", "version", "older-than")


class Where(click.ParamType):  # type: ignore[type-arg]
    """What must be so of a thread, such as graph=NAME."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Read it; refuse what is none."""
        key, equals, wanted = str(value).partition("=")
        if key not in KEYS or not equals or not wanted:
            self.fail(f"{value!r} is not KEY=VALUE with one of the keys {', '.join(KEYS)}.", param, ctx)
        if key == "status" and wanted not in (parked := ("interrupted", "failed", "unfinished")):
            self.fail(f"status is one of {', '.join(parked)}: others have nothing unfinished.", param, ctx)
        if key != "older-than":
            return key, wanted
        from superstep.runtime.settings.retention import duration

        try:
            return key, duration(wanted)
        except ValueError as error:
            self.fail(f"older-than: {wanted!r} {error}.", param, ctx)


def _bulk(command: Callable[..., int]) -> Callable[..., int]:
    """The options that all of them take."""
    for decorate in (
        pass_common,
        common_options,
        json_option,
        click.option("--yes", is_flag=True, help="Do not ask, also for more than one thread."),
        click.option("--dry-run", is_flag=True, help="Only say which threads."),
        click.option(
            "--where",
            type=Where(),
            multiple=True,
            required=True,
            metavar="KEY=VALUE",
            help=f"Parked threads of which this is so; more than once for more. Keys: {', '.join(KEYS)}.",
        ),
    ):
        command = decorate(command)
    return command


@click.command()
@click.option("--value", "given", metavar="JSON", help="Answer to the question that each of them waits at.")
@_bulk
def resume(common: Common, given: str | None, **options: Any) -> int:
    """Continue parked threads, or answer all their questions alike."""
    from superstep.runtime.cli.run.inputs import read_json

    answer = None if given is None else (read_json(given, "--value"),)

    async def perform(saver: TransactionalSaver, thread: ThreadSummary) -> str:
        from superstep.runtime.cli.run.bulk_resume import resumed

        return await resumed(saver, thread, answer, common.settings(runs=True))

    return _performed(common, "resume", perform, runs=True, **options)


@click.command()
@_bulk
def cancel(common: Common, **options: Any) -> int:
    """Give up what parked threads have left unfinished. Their state stays."""

    async def perform(saver: TransactionalSaver, thread: ThreadSummary) -> str:
        return "cancelled" if await saver.acancel(thread.thread_id) else "nothing was left"

    return _performed(common, "cancel", perform, **options)


@click.command()
@_bulk
def fork(common: Common, **options: Any) -> int:
    """Copy parked threads, each with its whole history to a new thread. They stay as they are."""
    import uuid

    async def perform(saver: TransactionalSaver, thread: ThreadSummary) -> str:
        copy = str(uuid.uuid4())
        await saver.acopy_thread(thread.thread_id, copy)
        return copy

    return _performed(common, "fork", perform, **options)


def _performed(  # long: one thread after the other, each with its ending
    common: Common,
    what: str,
    perform: Callable[[TransactionalSaver, ThreadSummary], Any],
    *,
    where: Sequence[tuple[str, Any]],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    runs: bool = False,
) -> int:
    """Choose threads, ask, perform, and report each. The exit code is that of the first that failed."""
    from superstep.runtime.cli.exits import INTERRUPTED
    from superstep.runtime.cli.session import open_saver, run_async

    settings = common.settings(runs=runs)
    if runs:
        from superstep.runtime.settings.models import use_models

        use_models(settings)
    chosen = _chosen(where)

    async def find(_: Stop) -> list[ThreadSummary]:
        async with open_saver(settings, prepare=False) as saver:
            return await saver.achosen(chosen)

    found = run_async(find)
    if dry_run or not found:
        _report(what, [_line(each, "chosen") for each in found], as_json=as_json)
        return 0
    if len(found) > 1 and not yes:
        if as_json:
            raise click.UsageError(f"That is {len(found)} threads: add --yes, or --dry-run to see which.")
        click.confirm(f"{what} {len(found)} threads?", abort=True, err=True)

    async def main(_: Stop) -> list[dict[str, Any]]:
        async with open_saver(settings, prepare=False) as saver:
            return [await _one(saver, each, perform) for each in found]

    lines = run_async(main)
    _report(what, lines, as_json=as_json)
    failed = next((each["code"] for each in lines if each["code"]), 0)
    return failed or (INTERRUPTED if any(each["outcome"] == "interrupted" for each in lines) else 0)


async def _one(
    saver: TransactionalSaver, thread: ThreadSummary, perform: Callable[[TransactionalSaver, ThreadSummary], Any]
) -> dict[str, Any]:
    """One thread: whatever goes wrong with it is its line, and the next one's turn comes."""
    from superstep.runtime.cli.exits import error_object, exit_code

    try:
        return _line(thread, await perform(saver, thread))
    except Exception as error:  # noqa: BLE001 - whatever a node raises is the thread's outcome
        return _line(thread, "failed") | {"code": exit_code(error), "error": error_object(error, thread.thread_id)}


def _line(thread: ThreadSummary, outcome: str) -> dict[str, Any]:
    about = {"thread_id": thread.thread_id, "graph": thread.graph, "version": thread.version, "status": thread.status}
    return {**about, "outcome": outcome, "code": 0, "error": None}


def _chosen(where: Sequence[tuple[str, Any]]) -> Chosen:
    from superstep.checkpointer import Chosen

    keys = [key for key, _ in where]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise click.UsageError(f"--where {twice[0]}=… was given twice, and a thread cannot be both.")
    said = dict(where)
    return Chosen(said.get("graph"), said.get("version"), said.get("status"), said.get("older-than"), parked=True)


def _report(what: str, lines: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    from superstep.runtime.cli.render import console, print_json, table

    if as_json:
        print_json([{key: value for key, value in each.items() if key != "code"} for each in lines])
        return
    out = console()
    if not lines:
        out.print("No such thread is parked.")
        return
    columns = [("thread", ""), ("graph", ""), ("version", ""), ("status", "whole"), (what, "")]
    rows = [
        (
            *(each["thread_id"], each["graph"] or "", each["version"] or "", each["status"]),
            f"{each['error']['type']}: {each['error']['message']}" if each["error"] else each["outcome"],
        )
        for each in lines
    ]
    table(columns, rows, out)
