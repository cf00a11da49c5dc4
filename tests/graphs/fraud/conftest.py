"""A card desk to test on: example events, whatever else a test ingests, and an oracle that counts them one by one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep import transactional
from superstep.checkpointer import Record
from superstep.graphs import fraud
from superstep.graphs.fraud import rules
from superstep.graphs.fraud.plan import thresholds_of
from superstep.graphs.fraud.seed import LIMIT, NOON, events
from tests.support import desks
from tests.support.commands import _own_folder, on_db, process_env, runtime, start
from tests.support.desks import at, saver_without_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from superstep.checkpointer import TransactionalSaver
    from superstep.providers import OfflineRequest

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]

QUIET = {
    "authorisation_id": "AU-1",
    "card": "C-1001",
    "device": "D-1001",
    "merchant": "north",
    "amount": 42_00,
    "at": NOON.isoformat(),
}
RISKY = {**QUIET, "card": "C-1002", "device": "D-77"}
RULES = rules.answer


def used(card: str, *, minute: int = 30, amount: int = 1, merchant: str = "north") -> dict[str, Any]:
    """An authorisation that comes in."""
    at = NOON.replace(hour=11, minute=minute).isoformat()
    said = {"type": "authorisation", "at": at, "card": card, "amount": amount, "open": amount}
    return {**said, "merchant": merchant}


def opened(amount: int, card: str = "C-1001") -> dict[str, Any]:
    """What is open on a card moves, and nothing else does."""
    return {"type": "chargeback", "at": NOON.isoformat(), "card": card, "open": amount}


def sighted(device: str, card: str) -> dict[str, Any]:
    return {"type": "sighting", "at": NOON.isoformat(), "device": device, "card": card}


def oracle(known: Iterable[dict[str, Any]], request: dict[str, Any]) -> dict[str, int]:
    """What has thresholds of each signal, by going through all events."""
    hour, day = _window(timedelta(hours=1), timedelta(minutes=5)), _window(timedelta(days=1), timedelta(hours=1))
    mine = [each for each in known if each["card"] == request["card"] and each["type"] != "sighting"]
    seen = [each for each in known if each["type"] == "sighting" and each["device"] == request["device"]]
    uses = [each for each in mine if each["type"] == "authorisation"]
    return {
        "velocity": sum(_inside(each, hour) for each in uses),
        "exposure": sum(each["open"] for each in mine),
        "device": len({each["card"] for each in seen if _inside(each, day)}),
        "recent": len({each["merchant"] for each in uses if _inside(each, day)}),
    }


def levels(measures: dict[str, int]) -> dict[str, int]:
    thresholds = thresholds_of(LIMIT)
    return {name: sum(threshold <= value for threshold in thresholds[name]) for name, value in measures.items()}


def _window(length: timedelta, step: timedelta) -> tuple[datetime, datetime]:
    midnight = NOON.replace(hour=0, minute=0)
    until = midnight + ((NOON - midnight) // step + 1) * step
    return until - length, until


def _inside(event: dict[str, Any], window: tuple[datetime, datetime]) -> bool:
    return window[0] <= datetime.fromisoformat(event["at"]) < window[1]


class Desk(desks.Desk):
    """Runs requests, answers questions, and ingests events.

    Attributes:
        weighed: how many verdicts a model was really asked for.
        batches: the events of each ingestion point.
    """

    def __init__(self, saver: TransactionalSaver) -> None:
        super().__init__(saver, transactional(fraud.graph.compile(checkpointer=saver)))
        self.weighed = 0
        self.batches: dict[int, list[dict[str, Any]]] = {}
        self._offsets = count()

    def answer(self, request: OfflineRequest) -> Any:
        self.weighed += 1
        return RULES(request)

    async def ask(self, request: dict[str, Any], thread: str = "t") -> Any:
        return await self.flow.ainvoke(request, at(thread))

    async def say(self, *, block: bool, thread: str = "t") -> Any:
        return await self.flow.ainvoke(Command(resume={"by": "E-ana", "block": block}), at(thread))

    async def ingest(self, *given: dict[str, Any], partition: str = "p") -> None:
        made = [Record(partition, next(self._offsets), json.dumps(each).encode()) for each in given]
        self.batches[(await self.saver.ingestion.ingest("test", made)).point] = list(given)

    def known(self, point: int) -> list[dict[str, Any]]:
        """All events up to an ingestion point."""
        return [each for at in sorted(self.batches) if at <= point for each in self.batches[at]]

    async def decisions(self) -> list[Any]:
        return await self.rows("SELECT * FROM fraud.decision ORDER BY authorisation_id")

    async def check(self, requests: dict[str, dict[str, Any]]) -> int:
        """How many decisions there are. Each rests on what the oracle counts, and no threshold was passed since."""
        rows = await self.decisions()
        for row in rows:
            request, signals = requests[row["authorisation_id"]], json.loads(row["signals"])
            seen = {name: each["measure"] for name, each in signals.items()}
            assert max(each["point"] for each in signals.values()) == row["point"]
            assert seen == oracle(self.known(row["point"]), request)
            assert levels(oracle(self.known(row["settled_point"]), request)) == levels(seen)
        return len(rows)

    async def runs(self, *threads: str) -> dict[str, int]:
        """How often nodes ran in all, by what the record says: once for each task that ran, and once more per drift."""
        steps = [step for thread in threads for step in await self.saver.asteps(thread)]
        return {
            "steps": len(steps),
            "tasks": sum(len(step.nodes) for step in steps),
            "again": sum(step.drifts for step in steps),
        }


@pytest.fixture
async def desk(
    database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """See `saver_without_keys` for the parameter."""
    async with saver_without_keys(database_url, monkeypatch, request) as saver:
        await fraud.setup(saver)
        made = Desk(saver)
        made.batches[await saver.ingestion.point()] = events()
        monkeypatch.setattr(rules, "answer", made.answer)
        yield made
