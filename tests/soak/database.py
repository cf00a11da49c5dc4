"""A database for a round on a server that may die in it."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests.support.databases import ensure_template, with_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer.embedded import EmbeddedServer

__all__ = ["own_database"]


@contextmanager
def own_database(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a fresh one with the saver's tables. No connection is kept open meanwhile."""
    name = f"soak_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        template = sql.Identifier(ensure_template(admin, server.admin_url))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), template))
    try:
        yield with_database(server.admin_url, name)
    finally:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
