"""`runtime send`: an answer that a worker delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["send"]


@click.command()
@click.argument("thread")
@click.option("--value", "given", metavar="JSON|@FILE|-", required=True, help="The answer.")
@click.option("--interrupt", metavar="ID", help="The question that it is for, if the thread waits at several.")
@json_option
@common_options
@pass_common
def send(common: Common, thread: str, given: str, interrupt: str | None, as_json: bool) -> int:
    """Answer the question THREAD waits at, and have a worker go on with it.

    The answer is for the question that is open now. Prints the id of the run that carries it. The beginnings of ids
    will do. An answer that comes too late is listed by runtime runs --state failed.
    """
    from superstep.runtime.cli.render import answer, print_json
    from superstep.runtime.cli.run.inputs import read_json
    from superstep.runtime.cli.session import run_async

    value, settings = read_json(given, "--value"), common.settings()

    async def main(_: Stop) -> tuple[str, str]:
        return await _send(settings, thread, value, interrupt)

    whole, run_id = run_async(main)
    if as_json:
        print_json({"thread_id": whole, "run_id": run_id, "state": "queued"})
    else:
        answer(f"{run_id}\n")
    return 0


async def _send(settings: CommandSettings, thread: str, value: Any, interrupt: str | None) -> tuple[str, str]:
    from superstep.runtime.cli.session import open_saver
    from superstep.runtime.cli.threads import thread_summary

    async with open_saver(settings, prepare=False) as saver:
        summary = await thread_summary(saver, thread, settings)
        async with saver.transaction() as conn:
            return summary.thread_id, await saver.asend(conn, summary.thread_id, value, interrupt=interrupt)
