"""The numbers of a side again, in another way: its draws are replayed one after the other, from empty accounts."""

from __future__ import annotations

from collections import Counter
from typing import Any


def replayed(side: dict[str, Any], *, credit_limit: int, most_today: int) -> dict[str, int]:
    """What the draws say by their amounts and their order alone.

    Nothing that the database noted beside them is looked at: neither limits nor what was there before.
    """
    spent: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    largest = 0
    for draw in side["draws"]:
        gap = abs(spent[draw["account_id"]] - draw["planned_drawn"])
        largest = max(largest, gap)
        spent[draw["account_id"]] += draw["amount"]
        counts["moved"] += bool(gap)
        counts["not_allowed"] += spent[draw["account_id"]] > min(credit_limit, most_today)
        counts["double_spends"] += spent[draw["account_id"]] > credit_limit
    return {
        "approved": len(side["draws"]),
        "wrong_decisions": counts["not_allowed"],
        "plans_executed_invalid": counts["not_allowed"],
        "double_spends": counts["double_spends"],
        "moved": counts["moved"],
        "divergence": largest,
        "overdrawn": sum(max(0, drawn - credit_limit) for drawn in spent.values()),
    }
