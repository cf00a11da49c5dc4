"""`runtime ingest`: files, what became of them, and processes that die in between."""

from __future__ import annotations

import io
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from superstep.checkpointer.database import failpoints
from superstep.runtime.cli.exits import exit_code
from superstep.runtime.cli.ingest import progress
from superstep.runtime.faults import AggregateNotFound, AggregateOutdated, EventSourceFailed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

SETTINGS = """
[derived]
ignore = ["heartbeat"]

[derived.velocity]
events = "payment"
key = "card"
value = "amount"
compute = ["count", "sum"]
window = "1h"
lateness = "10m"

[derived.shops]
events = "payment"
key = "card"
value = "shop"
compute = "top"
"""
EVENTS = [
    {"type": "payment", "at": f"2026-01-01T00:{n:02}:00Z", "card": "A", "amount": n, "shop": "x" if n % 3 else "y"}
    for n in range(30)
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runtime.toml").write_text(SETTINGS)
    lines = [json.dumps(each) for each in [*EVENTS, {"type": "heartbeat", "at": 0}]]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:10], "{bad", *lines[10:]]) + "\n")
    return tmp_path


def shown(on_db: Runtime, *more: str) -> Any:
    return on_db("ingest", "show", "velocity", "A", "--json", *more).json


def test_a_file_and_what_became_of_it(on_db: Runtime, folder: Path) -> None:
    done = on_db("ingest", "a.jsonl")
    assert done.out.startswith("30 events ingested in ")
    assert "1 ignored · 1 quarantined" in done.out
    assert on_db("ingest", "./a.jsonl", "--json").json["duplicates"] == 0
    (aside,) = on_db("ingest", "quarantine", "--json").json
    assert (aside["reason"], aside["body"]) == ("malformed", "{bad")
    assert "{bad" in on_db("ingest", "quarantine").out
    status = on_db("ingest", "status", "--json").json
    assert status["point"] == 1
    assert [(each["events"], each["quarantined"], each["ended"]) for each in status["partitions"]] == [(30, 1, True)]
    assert [(each["name"], each["status"]) for each in status["aggregates"]] == [
        ("shops", "ready"),
        ("velocity", "ready"),
    ]
    assert "velocity" in on_db("ingest", "status").out
    assert shown(on_db)["values"] == {"count": 30, "sum": "435"}
    assert "top: x (20), y (10)" in on_db("ingest", "show", "shops", "A").out
    assert shown(on_db, "--at", "2026-01-02T00:00:00Z")["values"]["count"] == 0
    assert on_db("ingest", "replay").out == "0 events ingested · 1 still in quarantine\n"


def test_options_of_all_commands_may_come_before_its_own(runtime: Runtime, database_url: str) -> None:
    assert runtime("ingest", "--db", database_url, "a.jsonl").out.startswith("30 events")
    assert runtime("ingest", f"--db={database_url}", "status", "--json").json["point"] == 1
    assert "Ingest events" in runtime("ingest", "--help").out
    assert "status" in runtime("ingest").err + runtime("ingest").out


def test_late_events_are_listed(on_db: Runtime, folder: Path) -> None:
    (folder / "b.jsonl").write_text("\n".join(json.dumps(EVENTS[n]) for n in (20, 10, 9)))
    assert "1 late" in on_db("ingest", "b.jsonl").out
    (late,) = on_db("ingest", "late", "velocity", "--json").json
    assert (late["behind"], late["payload"]["amount"]) == (660, 9)
    assert "0:11:00" in on_db("ingest", "late", "velocity").out
    assert on_db("ingest", "late", "shops").out == "No event was late for it.\n"


def test_a_declaration_that_changes_has_to_be_rebuilt(on_db: Runtime, folder: Path) -> None:
    on_db("ingest", "a.jsonl")
    (folder / "runtime.toml").write_text(SETTINGS.replace('"1h"', '"15m"'))
    assert "velocity cannot be read until it is built" in on_db("ingest", "a.jsonl").out
    refused = on_db("ingest", "show", "velocity", "A")
    assert refused.code == 3
    assert "runtime ingest rebuild velocity" in refused.err
    assert on_db("ingest", "rebuild", "velocity").out == "velocity: built from 30 events\n"
    assert shown(on_db)["values"]["count"] == 15
    assert on_db("ingest", "rebuild", "nobody").code == 3
    assert on_db("ingest", "drop", "shops", "--json").json == {"dropped": "shops"}


def test_what_is_wrong_in_the_settings_is_named_with_its_line(on_db: Runtime, folder: Path) -> None:
    (folder / "runtime.toml").write_text(SETTINGS.replace('"count", "sum"', '"count", "median"'))
    done = on_db("ingest", "a.jsonl")
    assert done.code == 3
    assert "runtime.toml, line 9: derived.velocity.compute: there is no function 'median'" in done.err
    (folder / "runtime.toml").write_text("[derived]\nignore = 1")
    assert "list of types" in on_db("ingest", "a.jsonl").err


def test_what_is_asked_wrongly(on_db: Runtime) -> None:
    assert on_db("ingest", "a.jsonl", "--replica", "x").code == 2
    assert on_db("ingest", "nowhere.jsonl").code == 3
    assert "--partition" in on_db("ingest", "-").err
    assert on_db("ingest", "show", "velocity", "A", "--at", "noon").code == 2


def test_without_an_aggregate_nothing_is_put_aside(on_db: Runtime, folder: Path) -> None:
    (folder / "runtime.toml").write_text("")
    done = on_db("ingest", "a.jsonl")
    assert done.code == 3
    assert "[derived.NAME]" in done.err
    assert on_db("ingest", "quarantine", "--json").json == []


def test_progress_is_shown_on_a_terminal(on_db: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", lambda **_: terminal)
    on_db("ingest", "a.jsonl", "--batch", "10")
    assert "30 events" in shown.getvalue()
    assert "100%" in shown.getvalue()
    on_db("ingest", "rebuild", "velocity")
    assert "velocity: point" in shown.getvalue()


def test_standard_input_is_a_stream_of_a_name(start: Any, database_url: str, folder: Path) -> None:
    for known in (0, 30):
        with (folder / "a.jsonl").open() as stream:
            process = start("ingest", "-", "--partition", "today", "--json", "--db", database_url, stdin=stream)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)["events"] == 30 - known


@pytest.mark.parametrize("point", [f"{name}:{nth}" for name in failpoints.INGEST_NAMES for nth in (1, 3)])
def test_a_process_that_is_killed_loses_nothing_and_doubles_nothing(
    start: Any, process_env: dict[str, str], on_db: Runtime, database_url: str, point: str
) -> None:
    process_env["SUPERSTEP_FAILPOINT"] = point
    process = start("ingest", "a.jsonl", "--batch", "7", "--db", database_url)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    on_db("ingest", "a.jsonl")
    assert shown(on_db)["values"] == {"count": 30, "sum": "435"}
    status = on_db("ingest", "status", "--json").json
    assert status["partitions"][0]["events"] == 30
    assert status["partitions"][0]["quarantined"] == 1


def test_processes_that_ingest_the_same_file_at_once_count_it_once(
    start: Any, on_db: Runtime, database_url: str
) -> None:
    processes = [start("ingest", "a.jsonl", "--batch", "3", "--json", "--db", database_url) for _ in range(3)]
    done = [json.loads(each.communicate(timeout=60)[0]) for each in processes]
    assert sum(each["events"] for each in done) == 30
    assert sum(each["quarantined"] for each in done) == 1
    assert shown(on_db)["values"] == {"count": 30, "sum": "435"}


def test_following_ends_with_a_signal(start: Any, on_db: Runtime, database_url: str) -> None:
    process = start("ingest", "a.jsonl", "--follow", "--db", database_url)
    while on_db("ingest", "status", "--json").json["point"] == 0:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert shown(on_db)["values"]["count"] == 30


def test_errors_have_exit_codes() -> None:
    assert {exit_code(error("x")) for error in (AggregateNotFound, AggregateOutdated, EventSourceFailed)} == {3}
