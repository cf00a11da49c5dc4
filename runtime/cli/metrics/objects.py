"""What was measured, as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep.checkpointer import Coherence, Metrics

__all__ = ["metrics_object"]


def metrics_object(found: Metrics) -> dict[str, Any]:
    """All of it. Times are in seconds, of steps and calls in milliseconds; rates are shares from 0 to 1."""
    return {
        "since": found.since,
        "until": found.until,
        "graph": found.graph,
        "coherence": {**_coherence(found.coherence), "since": found.coherence_since},
        "reconciliation": {
            "flows": found.reconciled,
            "differing": found.reconciled_differing,
            "delta": found.reconciliation_delta,
        },
        "steps": list(map(asdict, found.steps)),
        "calls": list(map(asdict, found.calls)),
        "deployments": [{**asdict(each), "error_rate": each.error_rate} for each in found.deployments],
        "flows": list(map(asdict, found.flows)),
    }


def _coherence(found: Coherence) -> dict[str, Any]:
    return {
        "totals": _totals(found.totals),
        "divergences": [{**_labelled(each), "mean_seconds": each.mean_seconds} for each in found.divergences],
        "skews": list(map(_labelled, found.skews)),
        "conflicts": [{**_labelled(each), "conflict_rate": each.conflict_rate} for each in found.conflicts],
        "flows": list(map(_totals, found.flows)),
        "left_out": found.left_out,
    }


def _totals(found: Any) -> dict[str, Any]:
    rates = ("mean_seconds", "invalidation_rate", "conflict_rate")
    return {**asdict(found), **{name: getattr(found, name) for name in rates}}


def _labelled(found: Any) -> dict[str, Any]:
    """The key for people as two entries: what was asked, and with which arguments."""
    values = asdict(found)
    statement, arguments = values.pop("label")
    return {**values, "statement": statement, "arguments": arguments}
