"""Events of these tests, and what they come to when they are counted one by one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from superstep.checkpointer import Aggregate, Record

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

VELOCITY = Aggregate.of(
    "velocity", events="pay", key="card", value="amount", compute=["count", "sum", "avg"], window="1h", step="10m"
)
SHOPS = Aggregate.of(
    "shops",
    events="pay",
    key="card",
    value="shop",
    compute=["distinct", "top", "last"],
    window="2h",
    lateness="30m",
    top=2,
)
TOTAL = Aggregate.of("total", events=["pay", "refund"], key=["card", "currency"], value="amount", compute="sum")
ALL = (VELOCITY, SHOPS, TOTAL)


@dataclass(frozen=True)
class Payment:
    """One event."""

    minute: int
    card: str = "A"
    amount: str = "1.50"
    shop: str = "s"
    type: str = "pay"
    id: str | None = None

    @property
    def at(self) -> datetime:
        return BEGAN + timedelta(minutes=self.minute)

    def record(self, offset: int, partition: str = "p") -> Record:
        said: dict[str, Any] = {"type": self.type, "at": self.at.isoformat(), "card": self.card, "shop": self.shop}
        text = json.dumps({**said, "id": self.id, "currency": "EUR"})
        return Record(partition, offset, f'{text[:-1]}, "amount": {self.amount}}}'.encode())


def records(*payments: Payment, first: int = 0, partition: str = "p") -> list[Record]:
    return [each.record(first + nth, partition) for nth, each in enumerate(payments)]


def expected(partitions: dict[str, list[Payment]], name: str, card: str, at: datetime) -> dict[str, Any]:
    """What the aggregate of this name says, by going through all events of each partition in their order."""
    counted: list[tuple[Payment, tuple[int, int]]] = []
    for nth, payments in enumerate(partitions.values()):
        latest = None
        for offset, each in enumerate(payments):
            latest = each.minute if latest is None else max(latest, each.minute)
            late = name == "shops" and latest - each.minute > 30
            types = ("pay", "refund") if name == "total" else ("pay",)
            if each.card == card and each.type in types and not late:
                counted.append((each, (nth, offset)))
    if name == "total":
        return {"sum": sum((Decimal(each.amount) for each, _ in counted), Decimal(0))}
    minute = int((at - BEGAN).total_seconds() // 60)
    step, size = (10, 60) if name == "velocity" else (120, 120)
    until = minute // step * step + step
    inside = [(each, place) for each, place in counted if until - size <= each.minute < until]
    if name == "velocity":
        amounts = [Decimal(each.amount) for each, _ in inside]
        total = sum(amounts, Decimal(0))
        return {"count": len(amounts), "sum": total, "avg": total / len(amounts) if amounts else None}
    shops = Counter(each.shop for each, _ in inside)
    top = sorted(shops.items(), key=lambda item: (-item[1], item[0]))[:2]
    last = max(inside, key=lambda item: (item[0].minute, *item[1]))[0].shop if inside else None
    return {"distinct": len(shops), "top": top, "last": last}
