"""Random events, in random batches and partitions, with records that come again and failures in between: in the end the
aggregates are what one gets by counting the distinct events one by one. So they are after a rebuild."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.derived import ingestion as module
from tests.checkpointer.derived.payments import ALL, BEGAN, Payment, expected, records

if TYPE_CHECKING:
    from superstep.checkpointer import Ingestion, Record, TransactionalSaver
    from tests.support.databases import Admin

CARDS = ("A", "B", "C")


class _CrashedError(Exception):
    pass


def history(dice: random.Random) -> dict[str, list[Payment]]:
    found: dict[str, list[Payment]] = defaultdict(list)
    minute = 0
    for _ in range(dice.randrange(80, 160)):
        minute += dice.randrange(0, 4)
        found[dice.choice("xyz")].append(
            Payment(
                max(0, minute - dice.choice((0, 0, 0, 5, 20, 45, 90))),
                dice.choice(CARDS),
                str(dice.randrange(-500, 500) / 100),
                dice.choice("stu"),
                dice.choice(("pay", "pay", "pay", "refund")),
            )
        )
    return dict(sorted(found.items()))


def batches(dice: random.Random, partitions: dict[str, list[Payment]]) -> list[list[Record]]:
    """Each partition in its order, mixed; now and then a batch goes back to what was given before."""
    given = {name: records(*events, partition=name) for name, events in partitions.items()}
    at, found = dict.fromkeys(given, 0), []
    while any(at[name] < len(given[name]) for name in given):
        batch: list[Record] = []
        for name in dice.sample(sorted(given), dice.randrange(1, 4)):
            begin = max(0, at[name] - dice.choice((0, 0, 0, 3, 20)))
            end = min(len(given[name]), at[name] + dice.randrange(0, 25))
            batch += given[name][begin:end]
            at[name] = max(at[name], end)
        if batch:
            found.append(batch)
    return found


async def compare(ingestion: Ingestion, partitions: dict[str, list[Payment]], dice: random.Random) -> None:
    last = max(each.minute for events in partitions.values() for each in events)
    for card in CARDS:
        for minute in [dice.randrange(0, last + 60) for _ in range(4)]:
            at = Payment(minute).at
            for name in ("velocity", "shops"):
                found = await ingestion.signal(name, card, at=at)
                assert found.values == expected(partitions, name, card, at), (name, card, minute)
        total = await ingestion.signal("total", [card, "EUR"])
        assert total.values == expected(partitions, "total", card, BEGAN)


@pytest.mark.parametrize("seed", range(8))
async def test_aggregates_are_what_counting_gives(
    saver: TransactionalSaver, database_url: str, admin: Admin, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    partitions = history(dice)
    assert await saver.ingestion.declare(*ALL) == []
    firsts = [records(*events, partition=name)[0] for name, events in partitions.items()]
    await saver.ingestion.ingest("s", firsts)  # partitions are numbered as they first come
    troubles = _Troubles(database_url, admin, monkeypatch, dice)
    for batch in batches(dice, partitions):
        with troubles:
            while True:
                try:
                    await saver.ingestion.ingest("s", batch)
                    break
                except _CrashedError:
                    troubles.seen += 1  # and started again
    assert troubles.seen
    events = sum(map(len, partitions.values()))
    assert sum(each.events for each in await saver.ingestion.partitions()) == events
    await compare(saver.ingestion, partitions, dice)
    for aggregate in ALL:
        assert await saver.ingestion.rebuild(aggregate.name) > 0
    await compare(saver.ingestion, partitions, dice)


class _Troubles:
    """What goes wrong with a batch, sometimes: the process dies, the server ends the session, an answer is lost."""

    def __init__(self, url: str, admin: Any, monkeypatch: pytest.MonkeyPatch, dice: random.Random) -> None:
        self._database = urlsplit(url).path.strip("/")
        self._admin, self._patch, self._dice = admin, monkeypatch, dice
        self._real = module.ingest
        self._name: str | None = None
        self.seen = 0

    def __enter__(self) -> None:
        kind = self._dice.choice(("none", "dies", "backend", "answer"))
        self._name = self._dice.choice(failpoints.INGEST_NAMES)
        if kind == "dies":
            failpoints.arm(self._name, self._dies)
        elif kind == "backend" and self._name != "ingest.committed":
            failpoints.arm(self._name, self._ends_backend)
        elif kind == "answer":
            self._patch.setattr(module, "ingest", self._loses_answer)

    def __exit__(self, *_: object) -> None:
        assert self._name is not None
        failpoints.disarm(self._name)
        self._patch.setattr(module, "ingest", self._real)

    async def _dies(self) -> None:
        assert self._name is not None
        failpoints.disarm(self._name)
        raise _CrashedError

    async def _ends_backend(self) -> None:
        assert self._name is not None
        failpoints.disarm(self._name)
        self.seen += 1
        end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        assert self._admin.execute(end, [self._database]).fetchone() == (1,)

    async def _loses_answer(self, *args: Any) -> Any:
        self._patch.setattr(module, "ingest", self._real)
        done = await self._real(*args)
        assert done.counts.events + done.counts.duplicates
        self.seen += 1
        raise asyncpg.ConnectionDoesNotExistError("lost")


async def test_a_lost_answer_tells_what_was_done_the_first_time(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saver.ingestion.declare(*ALL)
    troubles = _Troubles("", None, monkeypatch, random.Random(0))
    monkeypatch.setattr(module, "ingest", troubles._loses_answer)
    outcome = await saver.ingestion.ingest("s", records(Payment(1), Payment(2)))
    assert (outcome.point, outcome.counts.events, outcome.counts.duplicates) == (1, 2, 0)
    assert troubles.seen == 1
