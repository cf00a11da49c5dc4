"""A program beside the flows: serializable transactions on the same rows, without any of our code."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg

from tests.isolation.tasks import APPEND, READ, Keys
from tests.soak.books import Book
from tests.soak.plan import Kind, draw

__all__ = ["Errand", "main"]

_TRANSACTIONS = 100_000  # values that a program has for itself
_ENDED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    OSError,
)


@dataclass(frozen=True)
class Errand:
    """What a program is told. See `worker.Job`."""

    url: str
    book: str
    kind: str
    seed: int
    number: int

    def arguments(self) -> list[str]:
        """For `main`."""
        return [json.dumps(asdict(self))]


def main(arguments: list[str]) -> int:
    """Write as often as the plan says."""
    asyncio.run(_write(Errand(**json.loads(arguments[0]))))
    return 0


async def _write(errand: Errand) -> None:
    plan, book = draw(Kind(errand.kind), errand.seed), Book(Path(errand.book))
    dice, keys = plan.dice("program", errand.number), Keys.of(plan.shape)
    conn = None
    for value in itertools.islice(itertools.count(1 + errand.number * _TRANSACTIONS), plan.shape.outside):
        key, other = keys.pick(dice, keys.lists), keys.pick(dice, keys.lists)
        try:
            if conn is None:
                conn = await asyncpg.connect(errand.url, server_settings={"application_name": "a program beside"})
            async with conn.transaction(isolation="serializable"):
                seen = await conn.fetchval(READ, other)
                await asyncio.sleep(dice.uniform(0, 0.004))
                await conn.execute(APPEND, key, value)
                # Before COMMIT: if the answer to that is lost, whether the value is there tells what happened.
                book.note("wrote", key=key, value=value, read=other, seen=seen)
            book.note("committed", value=value)
        except _ENDED:
            continue
        except _LOST:
            conn = None
            await asyncio.sleep(0.02)
    if conn is not None:
        await conn.close()
