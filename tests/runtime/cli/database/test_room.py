"""`runtime db size` and `runtime db prune`."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from superstep.runtime.cli.database.room import human
from tests.support.commands import GRAPHS, Runtime


def run(on_db: Runtime, *threads: str) -> None:
    for thread in threads:
        assert on_db("run", f"{GRAPHS}.counting", "--thread", thread).code == 0


def age(url: str, *threads: str, days: int = 40) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE runtime.thread SET updated_at = now() - make_interval(days => %s) WHERE thread_id = ANY (%s)",
            (days, list(threads)),
        )


def left(on_db: Runtime) -> set[str]:
    return {thread["thread_id"] for thread in on_db("threads", "--json").json}


def test_old_threads_are_pruned(on_db: Runtime, database_url: str) -> None:
    run(on_db, "old", "new")
    age(database_url, "old")
    would = on_db("db", "prune", "--older-than", "30d", "--dry-run")
    assert would.code == 0
    assert would.out.startswith("Would free about ")
    assert would.out.endswith(": 1 thread.\n")
    assert left(on_db) == {"old", "new"}
    done = on_db("db", "prune", "--older-than", "30d", "--json")
    assert (done.json["deleted"], done.json["shortened"], done.json["dry_run"]) == (1, 0, False)
    assert done.json["bytes"] > 0
    assert left(on_db) == {"new"}
    assert on_db("db", "prune", "--older-than", "30d").out == "Freed about 0 bytes: 0 threads.\n"


def test_the_rules_of_the_file_are_followed(on_db: Runtime, database_url: str) -> None:
    run(on_db, "old", "new")
    age(database_url, "old")
    assert on_db("db", "prune").code == 3
    Path("runtime.toml").write_text('[retention]\nttl = "30d"\nkeep_latest = true\n')
    assert "`runtime db prune` would free about" in on_db("db", "size").out
    assert on_db("db", "size", "--json").json["prune"]["shortened"] == 1
    assert "the history of 1 thread." in on_db("db", "prune").out
    assert left(on_db) == {"old", "new"}
    assert on_db("show", "old").code == 0

    Path("runtime.toml").write_text('[retention]\nttl = "soon"\n')
    refused = on_db("db", "prune", "--older-than", "30d")
    assert (refused.code, "line 2: retention.ttl" in refused.err) == (3, True)
    assert on_db("threads").code == 0


def test_a_prune_that_would_leave_nothing_is_asked_about(on_db: Runtime, database_url: str) -> None:
    run(on_db, "one", "two")
    age(database_url, "one", "two")
    refused = on_db("db", "prune", "--older-than", "30d")
    assert refused.code == 3
    assert "every thread there is (2)" in refused.err
    assert left(on_db) == {"one", "two"}
    assert on_db("db", "prune", "--older-than", "30d", "--yes").code == 0
    assert left(on_db) == set()


def test_questions_are_kept_unless_told_otherwise(on_db: Runtime, database_url: str) -> None:
    asked = on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "asks", "--json")
    assert asked.json["status"] == "interrupted"
    run(on_db, "new")
    age(database_url, "asks", days=400)
    assert on_db("db", "prune", "--older-than", "30d", "--json").json["deleted"] == 0
    assert on_db("db", "prune", "--older-than", "30d", "--also-interrupted", "--json").json["deleted"] == 1
    assert left(on_db) == {"new"}


@pytest.mark.parametrize("length", ["0d", "30", "soon", "-1d"])
def test_what_is_no_length_of_time_is_refused(on_db: Runtime, length: str) -> None:
    refused = on_db("db", "prune", f"--older-than={length}")
    assert (refused.code, "30d" in refused.err) == (2, True)


def test_sizes(on_db: Runtime) -> None:
    run(on_db, "one", "two")
    found = on_db("db", "size", "--limit", "1", "--json").json
    assert found["graphs"][0]["threads"] == found["all_threads"] == 2
    assert len(found["threads"]) == 1
    assert found["prune"] is None
    assert found["tables"]["checkpoint"] > 0
    shown = on_db("db", "size").out
    for word in ("checkpoint", "all", "largest threads", "one", "two", "kB"):
        assert word in shown


def test_bytes_for_people() -> None:
    assert [human(n) for n in (0, 1023, 1024, 10_240, 5 << 20, 3 << 40, 1 << 60)] == [
        "0 bytes", "1023 bytes", "1.0 kB", "10 kB", "5.0 MB", "3.0 TB", "1048576 TB",
    ]  # fmt: skip
