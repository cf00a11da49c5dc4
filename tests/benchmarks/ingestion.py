"""Events that are ingested exactly once, with the aggregates that are maintained beside them."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from superstep.checkpointer import BATCH, Aggregate, LineSource, TransactionalSaver, pump
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_GOAL = 5_000  # events a second
_CARDS, _MERCHANTS = 5_000, 300
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_AGGREGATES = (
    Aggregate.of(
        "velocity", events="payment", key="card", value="amount", compute=["count", "sum"], window="1h", step="5m"
    ),
    Aggregate.of("merchants", events="payment", key="card", value="merchant", compute="distinct", window="1d"),
    Aggregate.of("latest", events="payment", key="card", value="merchant", compute="last"),
)
# Over the same events, and of none of them.
_NONE = Aggregate.of("none", events="payment", where={"card": "none"}, key="card", compute="count")
_CASES = (("none", 0, BATCH), ("one", 1, BATCH), ("three", 3, BATCH), ("three", 3, 200), ("three", 3, 10_000))


async def run(place: Place) -> Section:
    """The section."""
    events = place.size(60_000, 2_000)
    rounds = place.size(3, 1)
    rows, goal = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, aggregates, batch in _CASES:
            rates = [await _rate(place, Path(folder), events, aggregates, batch) for _ in range(rounds)]
            rows.append([name, batch, 1, median(rates)])
            if (aggregates, batch) == (3, BATCH):
                goal = median(rates)
        rates = [await _rate(place, Path(folder), events, 3, BATCH, ingesters=2) for _ in range(rounds)]
        rows.append(["three", BATCH, 2, median(rates)])
    text = (
        f"## Ingesting events\n\nA file of {events:,} payments of {_CARDS:,} cards, a line each, into an empty "
        "database: kept, counted once, and added to none, one or three of: count and sum over a sliding hour in "
        "steps of five minutes, distinct merchants a day, the latest merchant. One process; two ingesters have a file "
        "each.\n\n"
    )
    got = f"{goal:,.0f} events/s"
    return Section(
        text + table(["aggregates", "events in a batch", "ingesters", "events/s"], rows),
        [Goal("events ingested, three aggregates", got, f"{_GOAL:,} events/s", goal >= _GOAL)],
    )


async def _rate(place: Place, folder: Path, events: int, aggregates: int, batch: int, *, ingesters: int = 1) -> float:
    """Events per second into an empty schema."""
    schema = f"ingest_{time.monotonic_ns()}"
    files = [folder / f"{schema}_{nth}.jsonl" for nth in range(ingesters)]
    for nth, file in enumerate(files):
        file.write_text("\n".join(_lines(events // ingesters, nth)) + "\n")
    async with TransactionalSaver.from_conn_string(place.url, schema=schema, pool_min=ingesters) as saver:
        await saver.setup()
        ingestion = saver.ingestion
        await ingestion.declare(*(_AGGREGATES[:aggregates] or [_NONE]))
        began = time.perf_counter()
        done = await asyncio.gather(*(pump(ingestion, LineSource("f", [file]), batch=batch) for file in files))
        seconds = time.perf_counter() - began
        assert sum(each.counts.events for each in done) == events
        async with saver.transaction() as tx:
            await tx.execute(f'DROP SCHEMA "{schema}" CASCADE')
    return events / seconds


def _lines(events: int, seed: int) -> Sequence[str]:
    """Payments, a tenth of a second apart."""
    dice = random.Random(seed)
    return [
        json.dumps(
            {
                "type": "payment",
                "at": (_BEGAN + timedelta(milliseconds=100 * nth)).isoformat(),
                "card": f"C-{dice.randrange(_CARDS)}",
                "merchant": f"M-{dice.randrange(_MERCHANTS)}",
                "amount": round(dice.uniform(1, 500), 2),
                "currency": "EUR",
            }
        )
        for nth in range(events)
    ]
