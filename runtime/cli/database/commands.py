"""`runtime db`: the database the other commands use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.database.room import prune, size
from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["db"]

STAY_UP = 3600.0  # seconds that a server started on purpose waits for its next user
CONNECT_WITHIN = 20.0  # seconds to use the address that `url` printed; a connected client keeps the server


@click.group()
@common_options
def db() -> None:
    """The database: address, start, stop, migrate, check, size, prune."""


db.add_command(size)
db.add_command(prune)


def _started(grace: float) -> str:
    from superstep.checkpointer import EmbeddedServer

    with EmbeddedServer.acquire(grace=grace) as server:
        return server.url


@db.command()
@json_option
@common_options
@pass_common
def url(common: Common, as_json: bool) -> int:
    """Print the address, without its password. Starts the embedded Postgres if need be."""
    from superstep.runtime.cli.session import where

    settings = common.settings()
    address = where(settings) if settings.database.url else _started(CONNECT_WITHIN)
    _show({"url": address}, address, as_json=as_json)
    return 0


def _show(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print the answer of a command: as JSON, or its text."""
    from superstep.runtime.cli.render import print_json
    from superstep.runtime.settings.shown import safe

    if as_json:
        print_json(answer)
    else:
        click.echo(safe(text))


@db.command()
@json_option
@common_options
@pass_common
def start(common: Common, as_json: bool) -> int:
    """Start the embedded Postgres and leave it running until it is stopped, or unused for an hour."""
    from superstep.checkpointer import embedded_status

    _refuse_external(common.settings(), "started")
    before = embedded_status()
    address = _started(STAY_UP)
    _show({"url": address, "was_running": before.running}, address, as_json=as_json)
    return 0


@db.command()
@json_option
@common_options
@pass_common
def stop(common: Common, as_json: bool) -> int:
    """Stop the embedded Postgres, even if other commands use it."""
    from superstep.checkpointer import stop_embedded

    _refuse_external(common.settings(), "stopped")
    stopped = stop_embedded()
    _show({"stopped": stopped}, "Stopped." if stopped else "It was not running.", as_json=as_json)
    return 0


def _refuse_external(settings: CommandSettings, verb: str) -> None:
    from superstep.runtime.cli.session import where
    from superstep.runtime.faults import ConfigError

    if settings.database.url:
        raise ConfigError(
            f"The database is {where(settings)}, which is not {verb} from here. To use the embedded Postgres, "
            "leave out --db and unset DATABASE_URL."
        )


@db.command()
@json_option
@common_options
@pass_common
def migrate(common: Common, as_json: bool) -> int:
    """Create or update the runtime's tables. Safe to repeat, and to run at the same time as others."""
    from superstep.runtime.cli.session import open_threads, run_async, where

    settings = common.settings()

    async def main(_: Stop) -> None:
        async with open_threads(settings, prepare=True):
            pass

    run_async(main)
    found = {"database": where(settings), "schema": settings.database.schema}
    text = f"{found['database']}: the tables in schema {found['schema']} are up to date."
    _show(found, text, as_json=as_json)
    return 0


@db.command()
@json_option
@common_options
@pass_common
def check(common: Common, as_json: bool) -> int:
    """Check that the database can be reached and has what the runtime needs."""
    from superstep.runtime.cli.exits import error_object, exit_code, explained
    from superstep.runtime.cli.render import complain
    from superstep.runtime.cli.session import run_async, where

    settings = common.settings()
    found: dict[str, Any] = {"database": where(settings), "schema": settings.database.schema}
    code = 0
    try:
        found |= {"ok": True, **run_async(lambda _: _examined(settings)), "error": None}
    except Exception as error:  # noqa: BLE001 - any failure is the answer to the question
        found |= {"ok": False, "error": error_object(error)}
        code = exit_code(error)
        if not as_json:
            complain(explained(error, debug=common.debug))
    if as_json or code == 0:
        vectors = f"pgvector {found['pgvector']}" if found.get("pgvector") else "no pgvector (only vectors need it)"
        versions = f"PostgreSQL {found.get('postgres')}, {vectors}"
        _show(found, f"ok: {found['database']}, schema {found['schema']}, {versions}", as_json=as_json)
    return code


async def _examined(settings: CommandSettings) -> dict[str, Any]:
    """Connect, which checks versions and rights, and refuse tables that lack a migration."""
    from superstep.runtime.cli.session import open_threads, where
    from superstep.runtime.faults import SchemaMissing

    async with open_threads(settings) as threads:
        async with threads.transaction() as connection:
            versions = await connection.fetchrow(
                "SELECT current_setting('server_version') AS postgres, "
                "(SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector"
            )
        missing = await threads.apending()
    if missing:
        raise SchemaMissing(f"{where(settings)} lacks {', '.join(missing)} in schema {settings.database.schema}.")
    return dict(versions) if versions else {}
