"""The command line.

Each group of commands is a room; what the rooms share stands beside them, and no room imports another. A command
is a thin function: it reads its options, calls the layers below, and returns its exit code. Everything heavy
(LangGraph, the driver, rich) is imported inside the commands, so that `runtime --help` answers at once.
"""

from __future__ import annotations

import io
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from superstep.runtime.cli.options import Common, common_options
from superstep.runtime.cli.render.streams import complain, reserve_stdout, standing_streams, write_off

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

_PLACES = {
    "collection": "collections.commands:collection",
    "cron": "run.cron:cron",
    "db": "database.commands:db",
    "demo": "demo.commands:demo",
    "effects": "effects.commands:effects",
    "graph": "inspect.commands:graph",
    "history": "inspect.commands:history",
    "import": "imports.commands:import_threads",
    "ingest": "ingest.commands:ingest",
    "limits": "worker.commands:limits",
    "memory": "memory.commands:memory",
    "metrics": "metrics.commands:metrics",
    "models": "models.commands:models",
    "prompts": "prompts.commands:prompts",
    "reconcile": "run.reconcile:reconcile",
    "resume": "run.commands:resume",
    "run": "run.commands:run",
    "runs": "worker.commands:runs",
    "send": "run.send:send",
    "show": "inspect.commands:show",
    "submit": "run.submit:submit",
    "threads": "inspect.commands:threads",
    "top": "top.commands:top",
    "worker": "worker.commands:worker",
}
_BELOW = {"threads": ("run.bulk:resume", "run.bulk:cancel", "run.bulk:fork")}


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"runtime {version('superstep-runtime')}")
        except PackageNotFoundError:
            click.echo("runtime, from a source folder that is not installed")
        context.exit()


class _Commands(click.Group):
    """Each is imported when it is asked for: a flow that runs needs no other, and `--help` all of them."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Their names."""
        return sorted(_PLACES)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, with those below it that stand in other rooms."""
        if cmd_name not in _PLACES:
            return None
        command = _found(_PLACES[cmd_name])
        if isinstance(command, click.Group):
            for place in _BELOW.get(cmd_name, ()):
                command.add_command(_found(place))
        return command


def _found(place: str) -> click.Command:
    module, _, name = place.partition(":")
    command: click.Command = getattr(import_module(f"{__name__}.{module}"), name)
    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@common_options
def cli() -> None:
    """Run LangGraph flows whose super-steps are serializable Postgres transactions."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The arguments, by default the process's own.

    Returns:
        0 completed, 1 unexpected, 2 usage, 3 graph or input invalid, 4 database unavailable, 5 conflict exhausted,
        6 providers exhausted, 7 fenced or busy, 10 interrupted, 128 + n after a signal.
    """
    if arguments is None:
        _forget_current_folder()
    with standing_streams(keep=arguments is None):
        common = Common(on_json=reserve_stdout, warn=lambda text: complain(f"Warning: {text}"))
        return _performed(sys.argv[1:] if arguments is None else arguments, common)


def _forget_current_folder() -> None:
    """Take the current folder, which `python -m` puts there, from the front of the import path.

    Commands that list things import nothing from it, and those that load a graph look there last.
    """
    program = getattr(sys.modules.get("__main__"), "__spec__", None)
    if program and program.name.endswith(".runtime.__main__") and sys.path[:1] in ([""], [str(Path.cwd())]):
        del sys.path[0]


def _performed(arguments: Sequence[str], common: Common) -> int:
    try:
        code = cli.main(arguments, prog_name="runtime", standalone_mode=False, obj=common)
        sys.stdout.flush()
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        common.as_json = common.as_json or "--json" in arguments
        return _failed(error, _usage(error), error.exit_code, common)
    except (BrokenPipeError, SystemExit):  # click turns a closed pipe into SystemExit, and nothing else
        write_off()
        return 128 + getattr(signal, "SIGPIPE", 13)
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the last resort: every error becomes one block and a code
        from superstep.runtime.cli.exits import exit_code, explained

        return _failed(error, explained(error, debug=common.debug), exit_code(error), common)
    return code if isinstance(code, int) else 0


def _failed(error: Exception, words: str, code: int, common: Common) -> int:
    """Show an error that a command has not shown itself, as JSON too where that is wanted."""
    complain(words)
    try:
        if common.as_json:
            from superstep.runtime.cli.exits import error_object
            from superstep.runtime.cli.render import print_json

            print_json({"error": error_object(error)})
        sys.stdout.flush()
    except OSError:
        write_off()
    return code


def _usage(error: click.ClickException) -> str:
    """Return what click says about wrong usage."""
    written = io.StringIO()
    error.show(file=written)
    return written.getvalue().rstrip()
