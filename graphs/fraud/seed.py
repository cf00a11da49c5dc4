"""Tables, declarations and example events: made once, the same everywhere, safe to start from any number of processes.

Not a migration tool: data that is there is left alone.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep import Record, prompts, seed_prompts, seed_tables
from superstep.graphs.fraud.signals import AGGREGATES

if TYPE_CHECKING:
    from superstep import TransactionalSaver

__all__ = ["LIMIT", "NOON", "SOURCE", "events", "setup"]

CARDS = 40
LIMIT = 2_000_00
NOON = datetime(2026, 1, 15, 12, 2, tzinfo=UTC)
"""When the example authorisation is made."""

SOURCE = "fraud-examples"

_SCHEMA = Path(__file__).with_name("schema.sql")


async def setup(saver: TransactionalSaver) -> None:
    """Create the schema `fraud`, declare the aggregates and ingest the example events, unless that has been done.

    Idempotent; any number of processes may call it at once. Each event counts once, since its place is its identity.

    Raises:
        DatabaseUnavailable: The database cannot be reached, or refuses the rights to create a schema.
    """
    await seed_prompts(saver, Path(prompts.__file__).parent)
    outdated = await saver.ingestion.declare(*AGGREGATES)
    for name in {each.name for each in AGGREGATES} & set(outdated):
        await saver.ingestion.rebuild(name)  # there were such events before
    given = [Record("examples", at, json.dumps(each).encode()) for at, each in enumerate(events())]
    if (await saver.ingestion.positions(SOURCE)).get("examples", -1) < given[-1].offset:
        await saver.ingestion.ingest(SOURCE, given)
        await saver.ingestion.ended(SOURCE, ["examples"])
    await seed_tables(saver, "fraud.decision", lambda: _create(saver))


def events() -> list[dict[str, Any]]:
    """The example events: a quiet morning of all cards, and a busy half hour of C-1002 on a device that others use."""
    found = []
    for number in range(1, CARDS + 1):
        card, device = f"C-{1000 + number}", f"D-{1000 + number}"
        for hour in (8, 10):
            found += _use(card, device, NOON.replace(hour=hour, minute=number), 10_00 + number * 10, hour + number)
    for minute in (31, 36, 41, 47, 55):
        found += _use("C-1002", "D-77", NOON.replace(hour=11, minute=minute), 340_00, minute)
    for card in ("C-1011", "C-1012"):
        found.append(_sighting(card, "D-77", NOON.replace(hour=11)))
    at = NOON - timedelta(minutes=1)
    found.append({"type": "chargeback", "at": at.isoformat(), "card": "C-1011", "open": -10_00})
    return sorted(found, key=lambda event: str(event["at"]))


def _use(card: str, device: str, at: datetime, amount: int, merchant: int) -> list[dict[str, Any]]:
    used = {"type": "authorisation", "at": at.isoformat(), "card": card, "amount": amount, "open": amount}
    return [{**used, "merchant": ("north", "south", "harbour")[merchant % 3]}, _sighting(card, device, at)]


def _sighting(card: str, device: str, at: datetime) -> dict[str, Any]:
    return {"type": "sighting", "at": at.isoformat(), "device": device, "card": card}


async def _create(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute(_SCHEMA.read_text(encoding="utf-8"))
        cards = [(f"C-{1000 + number}", LIMIT) for number in range(1, CARDS + 1)]
        await tx.executemany("INSERT INTO fraud.card (id, credit_limit) VALUES ($1, $2)", cards)
