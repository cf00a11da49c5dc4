"""The flow as commands run it: processes that are killed, and many beside one that ingests."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg

from superstep.graphs.fraud import signals
from tests.graphs.fraud.conftest import QUIET, RISKY, used

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.graphs.fraud.conftest import Desk
    from tests.support.commands import Runtime

GRAPH = "superstep.graphs.fraud"
INGESTED = (
    "SELECT count(*) FROM runtime.derived_event e JOIN runtime.derived_partition p ON p.id = e.partition_id "
    "WHERE p.source = 'files'"
)
COUNT = "SELECT authorisation_id, count(*) FROM fraud.decision GROUP BY 1 ORDER BY 1"


def answer(on_db: Runtime, *, block: bool) -> tuple[int, Any]:
    done = on_db("resume", "t", "--value", json.dumps({"by": "E-ana", "block": block}), "--json")
    return done.code, done.json


def test_killed_wherever_it_is_it_goes_on_and_pays_once(start: Any, on_db: Runtime, database_url: str) -> None:
    """Killed as soon as the four signals are shown: the model may have been asked, or may not."""
    process = start("run", GRAPH, "--thread", "t", "--input", json.dumps(RISKY), "--db", database_url)
    for line in process.stdout:
        if "recent" in line:
            break
    process.kill()
    process.wait()
    shown = on_db("resume", "t", "--json")
    assert shown.code in (10, 3), shown.err
    code, report = answer(on_db, block=True)
    assert (code, report["values"]["outcome"]["status"]) == (0, "blocked")
    assert report["usage"]["llm_paid"] == 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute(COUNT).fetchall() == [("AU-1", 1)]
        assert connection.execute("SELECT count(*) FROM fraud.card WHERE status = 'held'").fetchone() == (1,)


async def test_sixteen_flows_beside_a_process_that_follows_a_growing_file(
    desk: Desk, start: Any, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each flow has read a signal when events of its card are appended, and reads on when they have been ingested."""
    file = tmp_path / "uses.jsonl"
    file.touch()
    follower = start("ingest", str(file), "--follow", "--db", database_url)
    requests = {f"AU-{nth}": {**QUIET, "authorisation_id": f"AU-{nth}", "card": f"C-{1010 + nth}"} for nth in range(16)}
    read, been, appended = signals._seen, set[str](), 0

    async def waiting(signal: str, request: Any) -> Any:
        nonlocal appended
        seen = await read(signal, request)
        if request["id"] not in been:
            been.add(request["id"])
            with file.open("a") as uses:
                uses.write("".join(json.dumps(used(request["card"], minute=nth)) + "\n" for nth in range(10, 15)))
            appended += 5
            until = appended
            while await desk.sql(INGESTED) < until:
                assert follower.poll() is None
                await asyncio.sleep(0.02)
        return seen

    monkeypatch.setattr(signals, "_seen", waiting)
    outs = await asyncio.gather(*(desk.ask(each, name) for name, each in requests.items()))
    async with desk.saver.transaction() as tx:
        for row in await tx.fetch("SELECT point, payload FROM runtime.derived_event WHERE point > 1"):
            desk.batches.setdefault(row["point"], []).append(json.loads(row["payload"]))
    assert {out["outcome"]["status"] for out in outs} == {"approved"}
    assert await desk.check(requests) == 16
    assert {json.loads(row["signals"])["velocity"]["values"]["count"] for row in await desk.decisions()} == {5}
    assert desk.weighed == 16
