"""What is derived from events, and the four nodes that read it side by side."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from superstep import Aggregate, current_step

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.fraud.state import Levels, Plan, Request, Seen, State

__all__ = [
    "AGGREGATES",
    "SIGNALS",
    "device",
    "exposure",
    "levels_now",
    "levels_of",
    "point_of",
    "recent",
    "seen_in",
    "velocity",
]

AGGREGATES = (
    # How often a card was used, and for how much, in the last hour.
    Aggregate.of(
        "card_velocity",
        events="authorisation",
        key="card",
        value="amount",
        compute=["count", "sum"],
        window="1h",
        step="5m",
    ),
    # What is open on a card: an authorisation opens its amount, a chargeback takes it back (`open` is negative there).
    Aggregate.of("card_exposure", events=["authorisation", "chargeback"], key="card", value="open", compute="sum"),
    # How many cards a device was seen with in a day.
    Aggregate.of(
        "device_cards", events="sighting", key="device", value="card", compute="distinct", window="1d", step="1h"
    ),
    # Where a card was used in a day.
    Aggregate.of(
        "card_merchants",
        events="authorisation",
        key="card",
        value="merchant",
        compute=["distinct", "top", "last"],
        window="1d",
        step="1h",
        top=3,
    ),
)

# By node: the aggregate, its key in the request, which of its functions has thresholds, and where the state has it.
# (`device` is an input, so the signal is called otherwise there.)
SIGNALS = {
    "velocity": ("card_velocity", "card", "count", "velocity"),
    "exposure": ("card_exposure", "card", "sum", "exposure"),
    "device": ("device_cards", "device", "distinct", "seen_device"),
    "recent": ("card_merchants", "card", "distinct", "recent"),
}


async def velocity(state: State) -> dict[str, Any]:
    """How often the card was used within an hour."""
    return {"velocity": await _seen("velocity", state["request"])}


async def exposure(state: State) -> dict[str, Any]:
    """What is open on the card."""
    return {"exposure": await _seen("exposure", state["request"])}


async def device(state: State) -> dict[str, Any]:
    """How many cards the device was seen with."""
    return {"seen_device": await _seen("device", state["request"])}


async def recent(state: State) -> dict[str, Any]:
    """Where the card was used of late."""
    return {"recent": await _seen("recent", state["request"])}


async def _seen(signal: str, request: Request) -> Seen:
    """A signal, and the ingestion point that it is of.

    The fact is the values of this card or device in this window: events of others run nothing again. The point is no
    fact. As one (`step.ingestion(validate=True)`) it would move with every batch, and on a busy stream the four tasks
    would never get to their commit. It is not needed either: see `point_of`.
    """
    step, (name, key, measure, _) = current_step(), SIGNALS[signal]
    found = await step.signal(name, request[key], at=_moment(signal, request))  # type: ignore[literal-required]
    values = {"top": [list(each) for each in found.values["top"]]} if "top" in found.values else {}
    numbers = {each: int(value) for each, value in found.values.items() if each in ("count", "sum", "distinct")}
    last = {"last": found.values["last"]} if "last" in found.values else {}
    return {"point": found.point, "measure": numbers[measure], "values": {**numbers, **values, **last}}


async def levels_now(step: Step, request: Request, plan: Plan) -> Levels:
    """How many thresholds each signal has reached: facts that a busy stream moves only now and then."""
    return {
        signal: await step.level(
            name,
            request[key],  # type: ignore[literal-required]
            plan["thresholds"][signal],
            of=measure,
            at=_moment(signal, request),
        )
        for signal, (name, key, measure, _) in SIGNALS.items()
    }


def levels_of(seen: dict[str, Seen], plan: Plan) -> Levels:
    """The same, of signals that were read."""
    return {
        signal: sum(threshold <= each["measure"] for threshold in plan["thresholds"][signal])
        for signal, each in seen.items()
    }


def point_of(seen: dict[str, Seen]) -> int:
    """The ingestion point that all four signals are of.

    They are facts of one super-step, which commits only if all of them hold together. So whatever the four tasks read
    at an earlier point still stood at the latest of their points.
    """
    return max(each["point"] for each in seen.values())


def seen_in(state: State) -> dict[str, Seen]:
    """The four signals that the state has."""
    return {signal: state[channel] for signal, (*_, channel) in SIGNALS.items()}  # type: ignore[literal-required]


def _moment(signal: str, request: Request) -> datetime | None:
    """The moment of the request names the window, however often it is read. What is open is of all time."""
    return None if signal == "exposure" else datetime.fromisoformat(request["at"])
