"""Every statement of the checkpointer by name, those of the first release, and a log of what a saver sends."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

import superstep.checkpointer
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database.pool import register_codecs
from superstep.runtime.sqlfile import statements
from tests.support.bank import make_bank

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Collection

_HERE = Path(superstep.checkpointer.__file__).parent


def all_statements(schema: str) -> dict[str, str]:
    """Of all rooms, filled in for one schema."""
    found: dict[str, str] = {}
    for file in sorted(_HERE.rglob("*.sql")):
        if file.parent.name != "migrations" and file.name != "parts.sql":
            parts = file.with_name("parts.sql")
            text = file.read_text() + (parts.read_text() if parts.exists() else "")
            found |= statements(text, schema)
    return found


def statements_of_first_release(text: str, schema: str) -> dict[str, str]:
    """Its file held one `put`, into which each of three commit rights was put."""
    name, put = re.search(r"^(-- name: put)\n(.*?)(?=^-- name:)", text, re.MULTILINE | re.DOTALL).groups()  # type: ignore[union-attr]
    each = "".join(
        f"{name}_{right}\n" + put.replace("{own}", f"{{own_{right}}}") for right in ("root", "nested", "outside")
    )
    return statements(text.replace(f"{name}\n{put}", each), schema)


class Log:
    """Statements that were sent to the server, those of the house by their names, without the driver's own."""

    def __init__(self, leave_out: Collection[str] = ()) -> None:
        self.sent: list[str] = []
        self._leave_out = leave_out
        self._names = {text: name for name, text in all_statements("runtime").items()}

    async def init(self, connection: Any) -> None:
        """For `asyncpg.create_pool`."""
        await register_codecs(connection)
        connection.add_query_logger(self._note)

    def _note(self, record: Any) -> None:
        name = self._names.get(record.query, record.query)
        if name not in self._leave_out and "typeinfo_tree" not in name and "jit" not in name:
            self.sent.append(name)

    async def during(self, work: Awaitable[Any]) -> list[str]:
        """What an awaitable sends."""
        await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
        self.sent.clear()
        await work
        await asyncio.sleep(0)
        return list(self.sent)


@asynccontextmanager
async def logged_saver(url: str, log: Log) -> AsyncIterator[TransactionalSaver]:
    """A saver whose statements are noted, with the bank's tables."""

    async def reset(_: Any) -> None:
        """As in the pool that savers open for themselves."""

    async with await asyncpg.create_pool(url, min_size=1, max_size=4, init=log.init, reset=reset) as pool:
        saver = TransactionalSaver(pool)
        await make_bank(saver)
        yield saver
        await saver.aclose()
