"""Options that every command takes, before or after its name, and the settings that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["Common", "Duration", "common_options", "json_option", "pass_common"]

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(slots=True)
class Common:
    """What was given of the common options.

    Attributes:
        db: connection string.
        schema: Postgres schema of the runtime's tables.
        config: settings file.
        run_config: the LangGraph config that `--config` gave, as it was written: JSON, or where it is.
        debug: whether errors show their traceback.
        as_json: whether standard output is for one JSON value.
        on_json: called as soon as that is known, before anything of the user's is imported.
        warn: shows a warning.
    """

    db: str | None = None
    schema: str | None = None
    config: str | None = None
    run_config: str | None = None
    debug: bool = False
    as_json: bool = False
    on_json: Callable[[], None] | None = None
    warn: Callable[[str], None] | None = None

    def settings(self, *, runs: bool = False, imports: bool = False) -> CommandSettings:
        """Resolve the settings, after setting the variables of `langgraph.json`.

        Args:
            runs: Whether the command runs a graph, so that it may be given a LangGraph config.
            imports: Whether it imports modules of the project without running a graph.

        Raises:
            ConfigError: A file or a value is wrong.
        """
        if self.run_config is not None and not runs:
            raise ConfigError("--config takes JSON for `runtime run` and `runtime resume` only; here it is a file.")
        import logging

        from superstep.runtime.loading.project import read_project
        from superstep.runtime.settings.settings import load_settings

        if not self.debug:
            # The driver logs lost connections with tracebacks; what they mean for the command is in its own error.
            logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
        project = read_project()
        project.set_variables()
        if self.warn:
            for warning in project.warnings(imports=imports, runs=runs):
                self.warn(warning)
        return load_settings(file=self.config, flags={"url": self.db, "schema": self.schema})


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A length of time, such as 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it; refuse what is none."""
        from superstep.runtime.settings.retention import duration

        try:
            return duration(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}.", param, ctx)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep the value in the one `Common` of the command line: the option nearest to the command's end wins."""
    common = context.ensure_object(Common)
    for each in value if option.name == "config" else [value] if value else []:
        # A LangGraph config is JSON, `@FILE` or `-`; what else it could be is the name of a settings file.
        is_run = option.name == "config" and (each == "-" or each.lstrip().startswith(("{", "[", "@", '"')))
        setattr(common, "run_config" if is_run else str(option.name), each)


def _json_wanted(context: click.Context, _: click.Parameter, wanted: bool) -> bool:
    common = context.ensure_object(Common)
    if wanted and not common.as_json and not context.resilient_parsing:
        common.as_json = True
        if common.on_json:
            common.on_json()
    return wanted


def common_options(command: Command) -> Command:
    """Add the common options to a command."""
    for decorate in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_remember, help="Show tracebacks."),
        click.option(
            "--config",
            metavar="FILE|JSON",
            multiple=True,
            expose_value=False,
            callback=_remember,
            help="Settings file; default: runtime.toml, if there is one. To run and resume also, or as well, the "
            'LangGraph config of the run, as JSON or @FILE: \'{"configurable": {…}, "recursion_limit": 50}\'.',
        ),
        click.option(
            "--schema",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="Postgres schema of the runtime's tables. Default: runtime.",
        ),
        click.option(
            "--db",
            metavar="URL",
            expose_value=False,
            callback=_remember,
            help="Database. Default: DATABASE_URL, else an embedded Postgres in .runtime/.",
        ),
    ):
        command = decorate(command)
    return command


json_option = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_json_wanted, help="Print JSON, errors too."
)
pass_common = click.make_pass_decorator(Common, ensure=True)
