"""`runtime prompts`: from files to labels, in the words that people see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep.runtime.cli.exits import error_object, exit_code
from superstep.runtime.faults import PromptConflict, PromptInvalid, PromptNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

VERIFY = """
description = "Verifies"
[variables]
who = "str"
[[messages]]
role = "user"
content = "Is {{ who }} fine?"
[[cases]]
name = "asks"
variables = {who = "Ada"}
expect = {contains = "Ada", regex = 'fine\\?$', max_tokens = 50}
"""
PLAN = "---\ndescription: Plans\nroute: fast\n---\nPlan [it].\n"


@pytest.fixture(autouse=True)
def prompts(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    (folder / "credit").mkdir(parents=True)
    (folder / "verify.toml").write_text(VERIFY)
    (folder / "credit" / "plan.md").write_text(PLAN)
    return folder


def test_from_files_to_labels(on_db: Runtime, prompts: Path) -> None:
    assert "No prompts yet" in on_db("prompts", "list").out
    assert on_db("prompts", "list", "--json").json == []
    assert on_db("prompts", "add").out == "credit/plan@1: new\nverify@1: new\n"
    assert on_db("prompts", "add").out == "credit/plan@1: unchanged\nverify@1: unchanged\n"
    assert on_db("prompts", "promote", "verify", "1").out == "verify: production → 1\n"
    assert on_db("prompts", "promote", "verify", "1").out == "verify: production points at 1 already\n"

    (prompts / "verify.toml").write_text(VERIFY.replace("fine", "well"))
    added = on_db("prompts", "add", "prompts/verify.toml", "--label", "production", "--json").json
    assert added == [{"name": "verify", "version": 2, "new": True, "label": "production", "label_moved": True}]
    (prompts / "verify.toml").write_text(VERIFY.replace("Verifies", "Checks"))
    assert on_db("prompts", "add", "--label", "production").out.splitlines() == [
        "credit/plan@1: unchanged",
        "credit/plan: production → 1",
        "verify@1: notes replaced",
        "verify: production 2 → 1",
    ]
    assert on_db("prompts", "rollback", "verify").out == "verify: production 1 → 2\n"
    assert on_db("prompts", "rollback", "verify").out == "verify: production 2 → 1\n"
    nothing = on_db("prompts", "rollback", "verify")
    assert (nothing.code, nothing.out) == (3, "")
    assert "PromptNotFound: Label 'production' of 'verify' points at version 1" in nothing.err

    listed = on_db("prompts", "list", "--json").json
    assert [(each["name"], each["latest"]) for each in listed] == [("credit/plan", 1), ("verify", 2)]
    assert listed[1]["labels"]["production"]["version"] == 1
    table = on_db("prompts", "list").out
    assert "credit/plan" in table
    assert "production → 1" in table
    versions = on_db("prompts", "list", "verify", "--json").json
    assert [(each["version"], list(each["labels"]), each["cases"]) for each in versions] == [
        (1, ["production"], 1),
        (2, [], 1),
    ]
    assert versions[0]["digest"][:12] in on_db("prompts", "list", "verify").out


def test_canaries(on_db: Runtime) -> None:
    on_db("prompts", "add")
    first = on_db("prompts", "promote", "verify", "1", "--label", "canary").out
    assert first.startswith("verify: canary → 1 (no share)\nNo thread gets it")
    assert on_db("prompts", "promote", "verify", "1", "--label", "canary", "--weight", "10%").out == (
        "verify: canary 1 (no share) → 1 (10%)\n"
    )
    assert (
        "(10%) → 1 (2.5%)" in on_db("prompts", "promote", "verify", "1", "--label", "canary", "--weight", "0.025").out
    )
    assert "canary → 1 (2.5%)" in on_db("prompts", "list").out
    assert on_db("prompts", "rollback", "verify", "--label", "canary").out == "verify: canary 1 (2.5%) → 1 (10%)\n"
    for weight in ("11", "-1%", "101%", "much", "nan", ""):
        done = on_db("prompts", "promote", "verify", "1", "--label", "canary", "--weight", weight)
        assert (done.code, done.out) == (2, ""), weight
    refused = on_db("prompts", "promote", "verify", "1", "--weight", "10%")
    assert refused.code == 3
    assert "Only the label 'canary'" in refused.err


def test_show_and_diff(on_db: Runtime, prompts: Path) -> None:
    on_db("prompts", "add", "--label", "production")
    (prompts / "verify.toml").write_text(VERIFY.replace("fine", "well"))
    on_db("prompts", "add")
    shown = on_db("prompts", "show", "verify").out
    assert shown.startswith("verify@2 · added ")
    assert shown.endswith(
        "Verifies\nvariables:\n  who: str\n\n--- user\nIs {{ who }} well?\n1 golden case: runtime prompts test verify\n"
    )
    assert "Plan [it]." in on_db("prompts", "show", "credit/plan").out
    for which in (["--label", "production"], ["--version", "1"]):
        assert "Is {{ who }} fine?" in on_db("prompts", "show", "verify", *which).out
    full = on_db("prompts", "show", "verify", "--json").json
    assert full["messages"] == [{"role": "user", "content": "Is {{ who }} well?", "name": None}]
    assert (full["version"], full["labels"], full["cases"][0]["name"]) == (2, {}, "asks")
    assert on_db("prompts", "show", "verify", "--label", "a", "--version", "1").code == 2

    assert on_db("prompts", "diff", "verify", "production", "2").out.splitlines()[-1:] == ["+Is {{ who }} well?"]
    lines = on_db("prompts", "diff", "verify", "2", "production").out.splitlines()
    assert (lines[:2], lines[-1]) == (["--- verify@2", "+++ verify@1"], "+Is {{ who }} fine?")
    assert on_db("prompts", "diff", "verify", "1", "production").out == "They say the same.\n"


def test_golden_cases_decide_the_exit_code(on_db: Runtime, prompts: Path) -> None:
    on_db("prompts", "add", "--label", "production")
    passed = on_db("prompts", "test", "verify")
    assert passed.code == 0
    assert passed.out.splitlines()[-1] == "verify@1: 1 of 1 passed · offline model, deterministic answers"

    worse = VERIFY.replace('contains = "Ada"', 'contains = "Grace"').replace("fine?", "well?")
    (prompts / "verify.toml").write_text(worse)
    on_db("prompts", "add")
    failed = on_db("prompts", "test", "verify")
    assert failed.code == 1
    assert "contains: 'Grace' not in the answer" in failed.out
    assert "answer: [offline] Is Ada well?" in failed.out
    assert failed.out.splitlines()[-1].startswith("verify@2: 0 of 1 passed")
    found = on_db("prompts", "test", "verify", "--json", "--route", "strong")
    assert (found.code, found.json["passed"], found.json["prompt"]) == (1, False, "verify@2")
    [case] = found.json["cases"]
    assert (case["name"], case["passed"], case["offline"], len(case["failures"])) == ("asks", False, True, 2)
    assert on_db("prompts", "test", "verify", "--label", "production").code == 0
    assert on_db("prompts", "test", "verify", "--version", "1").code == 0
    none = on_db("prompts", "test", "credit/plan")
    assert none.code == 3
    assert "has no golden cases" in none.err


def test_the_route_is_the_versions_own_unless_another_is_named(on_db: Runtime, tmp_path: Path) -> None:
    case = "cases:\n  - expect: {contains: Plan}\n"
    (tmp_path / "prompts" / "credit" / "plan.md").write_text(PLAN.replace("route: fast\n", "route: fast\n" + case))
    on_db("prompts", "add")
    settings = tmp_path / "runtime.toml"
    settings.write_text('[[models.strong.deployments]]\nprovider = "offline"\nmodel = "offline"\n')
    done = on_db("prompts", "test", "credit/plan")
    assert (done.code, "fast" in done.err) == (3, True)
    assert on_db("prompts", "test", "credit/plan", "--route", "strong").code == 0


def test_wrong_files_add_nothing(on_db: Runtime, prompts: Path) -> None:
    (prompts / "a.toml").write_text("messages = 1")
    (prompts / "b.md").write_text("---\n---\n{{ nope }}")
    done = on_db("prompts", "add")
    assert (done.code, done.out) == (3, "")
    assert "a.toml, messages: must be a list" in done.err
    assert "b.md, messages[1]: uses 'nope'" in done.err
    assert on_db("prompts", "list", "--json").json == []


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("add nowhere", 3, "There is no file or folder nowhere"),
        ("show q", 3, "There is no prompt 'q'"),
        ("show verify --label x", 3, "no label 'x'. Its labels are production"),
        ("show verify --version 7", 3, "no version 7"),
        ("list q", 3, "There is no prompt 'q'"),
        ("diff verify 1 7", 3, "no version 7"),
        ("diff verify x 1", 3, "no label 'x'"),
        ("promote verify 7", 3, "no version 7. It has 1"),
        ("promote verify 1 --label UP", 3, "'UP' is no label"),
        ("promote verify latest", 2, "Usage"),
        ("promote verify 0", 2, "Usage"),
        ("rollback verify --label x", 3, "no label 'x'"),
        ("test q", 3, "There is no prompt 'q'"),
        ("nonsense", 2, "Usage"),
    ],
)
def test_what_goes_wrong(on_db: Runtime, command: str, code: int, says: str) -> None:
    on_db("prompts", "add", "--label", "production")
    done = on_db("prompts", *command.split())
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_database_without_the_tables(runtime: Runtime, empty_database_url: str) -> None:
    for command in ("list", "add", "show verify", "promote verify 1", "rollback verify", "test verify"):
        done = runtime("prompts", *command.split(), "--db", empty_database_url)
        assert done.code == 4, command
        assert "runtime db migrate" in done.err


def test_another_schema(runtime: Runtime, empty_database_url: str) -> None:
    where = ("--db", empty_database_url, "--schema", 'o"dd')
    assert runtime("db", "migrate", *where).code == 0
    assert runtime("prompts", "add", *where).code == 0
    assert len(runtime("prompts", "list", "--json", *where).json) == 2
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute('SELECT count(*) FROM "o""dd".prompt_version').fetchone() == (2,)


def test_control_characters_do_not_reach_the_terminal(on_db: Runtime, prompts: Path) -> None:
    red = "\\u001b[31m"
    (prompts / "verify.toml").write_text(VERIFY.replace("Verifies", f"Verifies{red}").replace("fine?", f"{red}fine?"))
    on_db("prompts", "add", "--label", "production")
    for command in ("list", "list verify", "show verify", "test verify"):
        out = on_db("prompts", *command.split()).out
        assert "\x1b" not in out, command
        assert "erif" in out


def test_help_names_the_group_and_its_commands(runtime: Runtime) -> None:
    assert "\n  prompts " in runtime("--help").out
    commands = runtime("prompts", "--help").out
    for command in ("list", "show", "diff", "add", "promote", "rollback", "test"):
        assert f"\n  {command} " in commands
        assert runtime("prompts", command, "--help").code == 0


def test_exit_codes_and_advice() -> None:
    assert [exit_code(each("x")) for each in (PromptNotFound, PromptInvalid, PromptConflict)] == [3, 3, 5]
    assert "runtime resume t" in error_object(PromptInvalid("x"), "t")["what_to_do"]
    assert "what_to_do" not in error_object(PromptInvalid("x"))
    json.dumps(error_object(PromptConflict("x"), "t"))
