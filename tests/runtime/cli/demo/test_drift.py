"""`runtime demo drift`: real races, small ones."""

from __future__ import annotations

import re
import signal
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from superstep.checkpointer import current_step
from superstep.runtime.cli.demo import plot
from superstep.runtime.cli.demo.desks import Seen, StepDesk
from tests.runtime.cli.demo.oracle import replayed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

RACE = ("demo", "drift", "--flows", "6", "--accounts", "1", "--thinking", "0.2")
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'superstep_demo%'"


def left_behind(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(SCHEMAS)]


def check(shown: dict[str, Any], name: str) -> dict[str, Any]:
    """One side's numbers are those of a replay of its draws, and its rows agree with each other."""
    side: dict[str, Any] = shown[name]
    expected = replayed(side, credit_limit=shown["credit_limit"], most_today=shown["most_today"])
    assert {key: side[key] for key in expected} == expected
    drawn = {each["id"]: each["drawn"] for each in side["accounts"]}
    assert sum(drawn.values()) == sum(each["amount"] for each in side["draws"])
    booked = {each["flow"] for each in side["decisions"] if each["outcome"] == "approve"}
    assert booked == {each["flow"] for each in side["draws"]} == set(side["ages_ms"])
    assert side["decided"] == shown["flows"] == len(side["decisions"])
    # The planner asks in each round, the executor when there is room; a node that runs again may ask again.
    asked = shown["flows"] + side["plans_caught"] + side["approved"]
    assert side["llm_paid"] == asked if name == "plain" else side["llm_paid"] >= asked
    assert min(side["ages_ms"].values()) >= 2000 * shown["thinking"]
    return side


@pytest.mark.parametrize("ttl", ["2", "0"])
def test_the_failure_and_the_cure(runtime: Runtime, database_url: str, ttl: str) -> None:
    done = runtime(*RACE, "--ttl", ttl, "--json", "--db", database_url)
    assert done.code == 0, done.err
    shown = done.json
    plain, ours = check(shown, "plain"), check(shown, "superstep")
    assert plain["wrong_decisions"] > 0
    assert plain["overdrawn"] > 0
    assert plain["right"] is False
    assert (plain["llm_reused"], plain["ran_again"]) == (0, 0)
    # Every serial order of six that each ask for a sixth of all grants as many as a day allows.
    assert ours["approved"] * 250_00 == shown["most_today"]
    assert ours["plans_caught"] == 6 - ours["approved"]
    assert (ours["wrong_decisions"], ours["double_spends"], ours["overdrawn"], ours["right"]) == (0, 0, 0, True)
    assert shown["again"] == f"runtime demo drift --flows 6 --accounts 1 --thinking 0.2 --ttl {ttl}"
    assert left_behind(database_url) == []


def test_lines_fit_into_80_columns(runtime: Runtime, database_url: str) -> None:
    done = runtime(*RACE, "--accounts", "2", "--db", database_url)
    assert done.code == 0
    assert max(len(line.rstrip()) for line in done.out.splitlines()) <= 80
    assert "plain + cache: 6 flows on 2 accounts, all at once" in done.out
    assert "Again: runtime demo drift --flows 6 --accounts 2 --thinking 0.2 --ttl 2" in done.out
    rows = dict(re.findall(r"^ (\S.*?\S) {2,}(\S.*?) *$", done.out, re.MULTILINE))
    assert rows["applications decided"].split() == ["6", "6"]
    wrong, none = map(int, rows["wrong decisions"].split())
    assert wrong > none == 0
    assert f"Plain: {wrong} of 6 decisions are wrong" in done.out


def test_superstep_is_watched_too(runtime: Runtime, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that are no facts make the same nodes as wrong on Superstep, and the command says so."""

    async def unvalidated(_: StepDesk, sql: str, *args: Any) -> Seen:
        return Seen(await current_step().fetchrow(sql, *args, validate=False), 0.0)

    monkeypatch.setattr(StepDesk, "read", unvalidated)
    done = runtime(*RACE, "--db", database_url)
    assert done.code == 1
    assert "Superstep: WRONG" in done.out


def test_one_flow_has_nobody_to_race_with(runtime: Runtime, database_url: str) -> None:
    done = runtime("demo", "drift", "--flows", "1", "--accounts", "1", "--thinking", "0", "--db", database_url)
    assert done.code == 0
    assert "Plain: nothing went wrong this time, with 1 approved." in done.out


def test_keys_of_vendors_are_not_used(runtime: Runtime, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    assert runtime(*RACE, "--db", database_url).code == 0


@pytest.mark.parametrize(("side", "thinking"), [("plain", "10"), ("superstep", "2")])
def test_stopped_by_a_signal_it_leaves_nothing(start: Any, database_url: str, side: str, thinking: str) -> None:
    process = start(*RACE, "--thinking", thinking, "--db", database_url)
    assert "plain + cache" in process.stdout.readline()
    while not any(name.endswith(side) for name in left_behind(database_url)):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    assert left_behind(database_url) == []


def test_picture(runtime: Runtime, database_url: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = runtime(*RACE, "--plot", "race.png", "--db", database_url)
    assert done.code == 0, done.err
    assert done.out.endswith("Drawn: race.png\n")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_cannot_be_written(runtime: Runtime, database_url: str, tmp_path: Path, as_json: bool) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "race.png").symlink_to(tmp_path / "no" / "such" / "folder" / "race.png")
    done = runtime(*RACE, "--plot", "race.png", "--db", database_url, *(["--json"] if as_json else []))
    assert done.code == 1
    if as_json:
        assert done.json["error"]["type"] == "FileNotFoundError"
    else:
        assert "Again: runtime demo drift" in done.out
        assert "FileNotFoundError" in done.err


def test_what_it_draws_with_is_asked_for_first(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    done = runtime(*RACE, "--plot", "race.png", "--json", "--db", "postgresql://127.0.0.1:1/d")
    assert done.code == 3
    assert done.json["error"]["type"] == "ConfigError"
    assert "superstep-runtime[plot]" in done.json["error"]["message"]


def test_wrong_usage(runtime: Runtime) -> None:
    assert runtime("demo", "drift", "--flows", "2", "--accounts", "3").code == 2
    assert runtime("demo", "drift", "--plot", "no/such/folder/race.png").code == 2


def test_a_user_who_may_not_create_a_schema(runtime: Runtime, database_url: str) -> None:
    role = f"superstep_demo_{uuid.uuid4().hex[:8]}"
    place = urlsplit(database_url)
    theirs = place._replace(netloc=f"{role}:guest@{place.netloc.rpartition('@')[2]}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'guest'")
        try:
            done = runtime(*RACE, "--db", urlunsplit(theirs))
        finally:
            connection.execute(f"DROP ROLE {role}")
    assert done.code == 4
    assert "may not create a schema" in done.err


def test_help(runtime: Runtime) -> None:
    done = runtime("demo", "drift", "--help")
    assert done.code == 0
    for option in ("--flows", "--accounts", "--thinking", "--ttl", "--plot", "--json", "--db"):
        assert option in done.out
    assert "drift" in runtime("demo", "--help").out
