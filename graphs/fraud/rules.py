"""What the model answers in this flow when no vendor serves it. A pure function of the request's content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep import OfflineRequest

__all__ = ["answer"]

_WEIGHTS = {"velocity": 20, "exposure": 25, "device": 20, "recent": 10}
_SAID = {
    "velocity": "The card was used {count} times within an hour.",
    "exposure": "{euros} are open on the card.",
    "device": "The device was seen with {distinct} cards in a day.",
    "recent": "The card was used at {distinct} merchants in a day.",
}


def answer(request: OfflineRequest) -> dict[str, Any] | None:
    """Weigh the signals by the thresholds they have reached; leave anything else to the offline model's default."""
    if request.schema_name != "Verdict":
        return None
    try:
        signals = json.loads(request.text)["signals"]
    except (ValueError, KeyError, TypeError):
        return None
    reached = {signal: said for signal, said in signals.items() if said["reached"]}
    risk = 10 + sum(_WEIGHTS[signal] * said["reached"] for signal, said in reached.items())
    reasons = [
        "[offline] " + _SAID[signal].format(**said, euros=f"{said.get('sum', 0) / 100:,.2f}")
        for signal, said in reached.items()
    ]
    return {"risk": min(risk, 100), "reasons": reasons or ["[offline] The card behaves as it always did."]}
