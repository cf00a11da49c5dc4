import psycopg

from tests.support.commands import GRAPHS, Runtime

NOWHERE = "postgresql://someone:hunter2@127.0.0.1:1/d"


def test_tables_are_checked_and_migrated(runtime: Runtime, empty_database_url: str) -> None:
    for command in ("threads", "history t", "show t", "resume t", "db check"):
        done = runtime(*command.split(), "--db", empty_database_url)
        assert done.code == 4, command
        assert "runtime db migrate" in done.err
    checked = runtime("db", "check", "--json", "--db", empty_database_url)
    assert (checked.code, checked.json["ok"], checked.json["error"]["type"]) == (4, False, "SchemaMissing")

    for _ in range(2):
        assert runtime("db", "migrate", "--db", empty_database_url, "--schema", "other").code == 0
    with psycopg.connect(empty_database_url) as connection:
        names = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('runtime', 'other')").fetchall()
    assert names == [("other",)]
    checked = runtime("--db", empty_database_url, "--schema", "other", "db", "check", "--json")
    assert (checked.code, checked.json["ok"], checked.json["error"]) == (0, True, None)
    assert "pgvector" in runtime("--schema", "other", "db", "--db", empty_database_url, "check").out


def test_a_run_makes_its_tables(runtime: Runtime, empty_database_url: str) -> None:
    assert runtime("run", f"{GRAPHS}.counting", "--db", empty_database_url).code == 0


def test_no_database_is_exit_4_and_no_password_is_shown(runtime: Runtime) -> None:
    for command in (
        "threads",
        "db check",
        "db check --json",
        "db migrate",
        f"run {GRAPHS}.counting --json",
        "resume t",
    ):
        for debug in ([], ["--debug"]):
            done = runtime("--db", NOWHERE, *debug, *command.split())
            assert done.code == 4, command
            assert "hunter2" not in done.out + done.err
    assert runtime("--db", NOWHERE, "db", "url").out == "postgresql://someone:***@127.0.0.1:1/d\n"


def test_a_database_of_others_is_not_started_or_stopped(runtime: Runtime) -> None:
    for command in ("start", "stop"):
        done = runtime("db", command, "--db", NOWHERE)
        assert done.code == 3
        assert "hunter2" not in done.err


def test_the_nearest_option_wins(runtime: Runtime, database_url: str) -> None:
    assert runtime("--db", NOWHERE, "threads", "--db", database_url).code == 0
    assert runtime("--db", database_url, "threads", "--db", NOWHERE).code == 4
