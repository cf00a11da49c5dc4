"""What the recorded calls say of deployments."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.runtime.cli.models.routes import TWO_ROUTES, deployments

if TYPE_CHECKING:
    from tests.support.commands import Runtime


class Records:
    """Calls as the checkpointer records them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def add(self, record: Any, *, ago: float = 0, outcome: str = "answered", route: str | None = "fast") -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO runtime.model_call (id, thread_id, ns, checkpoint_id, task_id, attempt, node, outcome,"
                " offline, route, record, created_at) VALUES (%s, 't', '', 'c', 'k', 1, 'n', %s, false, %s, %s,"
                " now() - make_interval(secs => %s))",
                (uuid.uuid4(), outcome, route, json.dumps(record), ago),
            )

    def answered(self, deployment: str, ms: float, *tried: Any, **given: Any) -> None:
        self.add({"deployment": deployment, "ms": ms, "tried": list(tried)}, **given)

    def failed(self, *tried: Any, **given: Any) -> None:
        spent = sum(each["ms"] for each in tried)
        self.add({"deployment": None, "ms": spent, "tried": list(tried)}, outcome="failed", **given)


def left(deployment: str, number: int | None = 503, ms: float = 10.0) -> dict[str, Any]:
    return {"deployment": deployment, "why": f"status {number}", "status": number, "ms": ms, "counts": True}


@pytest.fixture
def records(database_url: str) -> Records:
    return Records(database_url)


FAST, LOCAL, STRONG = "fast/openai:gpt-5.4-mini", "fast/openai-compatible:local", "strong/anthropic:claude-sonnet-5"


def test_health_is_what_the_records_of_the_last_hour_say(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(TWO_ROUTES)
    records.answered(FAST, 100.0)
    records.answered(FAST, 300.0)
    # 500 ms in all, of which the first deployment took 150, so the second one 350. Passing one over took no time.
    records.answered(LOCAL, 500.0, left(FAST, 429, 150.0), left(STRONG, None, 0.0))
    records.failed(left(LOCAL, None, 20.0), left(LOCAL, 500, 30.0), ago=60)
    records.answered(STRONG, 100.0, ago=3700)
    records.answered(STRONG, 100.0, route=None)
    records.answered("gone/openai:m", 100.0)
    shown = deployments(on_db("models", "--json").json)
    fast, local = shown[FAST]["health"], shown[LOCAL]["health"]
    assert (fast["calls"], fast["failed"], fast["p50_ms"], fast["last_failure"]) == (3, 1, 200.0, "status 429")
    assert (local["calls"], local["failed"], local["p50_ms"], local["last_failure"]) == (3, 2, 350.0, "status 500")
    assert (fast["circuit"], fast["circuit_until"]) == ("closed", None)
    ago = datetime.now(UTC) - datetime.fromisoformat(local["last_failure_at"])
    assert timedelta(seconds=59) < ago < timedelta(seconds=3600)
    assert shown[STRONG]["health"] is None
    table = on_db("models").out
    assert "3, 33 % failed" in table
    assert "status 429" in table


def test_a_circuit_that_failures_opened_is_open_until_its_cooldown_is_over(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(
        "[[models.fast.deployments]]\nprovider = 'offline'\n"
        "breaker = { failures = 3, cooldown = 3000, longest = 3000 }\n"
    )
    offline = "fast/offline:offline"
    records.answered(offline, 10.0, ago=5)
    records.failed(*[left(offline)] * 2, ago=4)
    assert deployments(on_db("models", "--json").json)[offline]["health"]["circuit"] == "closed"
    records.failed(left(offline), ago=3)
    health = deployments(on_db("models", "--json").json)[offline]["health"]
    assert health["circuit"] == "open"
    until = datetime.fromisoformat(health["circuit_until"])
    assert timedelta(seconds=2900) < until - datetime.now(UTC) < timedelta(seconds=3000)
    assert f"open until {until.astimezone():%H:%M:%S}" in on_db("models").out


def test_a_circuit_is_closed_by_an_answer_that_came_after_the_failures(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(
        "[[models.fast.deployments]]\nprovider = 'offline'\nbreaker = { failures = 1, cooldown = 1 }\n"
    )
    records.failed(left("fast/offline:offline"), ago=30)
    assert deployments(on_db("models", "--json").json)["fast/offline:offline"]["health"]["circuit"] == "half-open"
    records.answered("fast/offline:offline", 10.0, ago=20)
    assert deployments(on_db("models", "--json").json)["fast/offline:offline"]["health"]["circuit"] == "closed"


@pytest.mark.parametrize("record", [{}, {"tried": 3, "ms": "x"}, {"tried": [3, {"ms": "x"}, {"ms": 1}], "ms": -1}])
def test_records_of_other_shapes_are_passed_over(on_db: Runtime, records: Records, record: Any) -> None:
    records.add(record)
    records.answered("default/offline:offline", 5.0)
    assert deployments(on_db("models", "--json").json)["default/offline:offline"]["health"]["calls"] == 1


def test_a_run_leaves_records(on_db: Runtime) -> None:
    on_db("run", "graphs.underwriting", "--thread", "t")
    health = deployments(on_db("models", "--json").json)["default/offline:offline"]["health"]
    assert health["calls"] > 0
    assert (health["failed"], health["circuit"]) == (0, "closed")


def test_a_database_without_tables_has_no_calls_yet(runtime: Runtime, empty_database_url: str) -> None:
    done = runtime("models", "--db", empty_database_url)
    assert (done.code, done.err) == (0, "")
    assert "no calls yet" in done.out
    assert runtime("models", "--db", empty_database_url, "--json").json["note"] is None


def test_a_database_that_is_away_is_said_and_no_reason_to_fail(runtime: Runtime) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    done = runtime("models", "--db", url, "--json")
    assert done.code == 0
    assert done.json["note"].startswith("How they did lately is not known: ")
    table = runtime("models", "--db", url)
    assert "How they did lately is not known" in table.out
    assert "hunter2" not in done.out + done.err + table.out + table.err
