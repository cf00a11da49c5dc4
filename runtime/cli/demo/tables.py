"""The tables of a side: made in a schema of their own, read when all is over, dropped whatever happens."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import DatabaseUnavailable
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from superstep.checkpointer import StoredThreads
    from superstep.runtime.cli.demo.scenario import Scenario

__all__ = ["contents", "new_name", "own_schema", "statements"]

MAY_NOT = "42501"  # SQLSTATE insufficient_privilege
FOUND = ("draws", "decisions", "accounts")

statements = beside(__file__)


def new_name() -> str:
    """A name of schemas that no other demonstration has."""
    return f"superstep_demo_{secrets.token_hex(4)}"


@asynccontextmanager
async def own_schema(database: StoredThreads, schema: str, scenario: Scenario) -> AsyncIterator[Mapping[str, str]]:
    """Create a schema with the application's tables and accounts, and drop it with all that came into it since.

    Yields:
        The statements for that schema, by name.

    Raises:
        DatabaseUnavailable: The user may not create schemas in this database.
    """
    sql = statements(schema)
    try:
        await _create(database, sql, scenario)
        yield sql
    except Exception as error:
        if getattr(error, "sqlstate", None) != MAY_NOT:
            raise
        raise DatabaseUnavailable(
            "This database user may not create a schema, which the demonstration needs for its tables. Grant CREATE on "
            "the database, or leave --db out to use the embedded Postgres."
        ) from error
    finally:
        async with database.transaction() as tx:
            await tx.execute(sql["drop"])


async def _create(database: StoredThreads, sql: Mapping[str, str], scenario: Scenario) -> None:
    names = [f"A-{n + 1}" for n in range(scenario.accounts)]
    async with database.transaction() as tx:
        await tx.execute(sql["create"])
        await tx.executemany(sql["open_account"], [(name, scenario.credit_limit) for name in names])
        await tx.executemany(sql["open_day"], [(name, scenario.most_today) for name in names])


async def contents(database: StoredThreads, sql: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What is in the tables: `draws` in the order of their commits, `decisions`, `accounts`."""
    async with database.transaction() as tx:
        return {name: [dict(row) for row in await tx.fetch(sql[name])] for name in FOUND}
