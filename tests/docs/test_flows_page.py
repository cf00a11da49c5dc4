"""docs/flows.md: its file and its commands run; its tables are about what there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from superstep.runtime.cli.inspect.views import NUMBERS
from superstep.runtime.loading import loader
from tests.docs.pages import ROOT, blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE, _, REFERENCE = page("flows.md").partition("\n## The flows that come with the project\n")


def first_column(heading: str) -> list[str]:
    table = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [word for line in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", line.split("|")[1])]


def test_the_file_and_its_commands_twice_in_a_row(shell: Shell, tmp_path: Path) -> None:
    (source,) = blocks(PAGE, "python")
    (tmp_path / "desk.py").write_text(source)
    asking = next(line for line in commands(PAGE) if "--thread party" in line)
    shown = perform(commands(PAGE), shell, {asking: 10})
    assert '"6 of 17 seats?"' in shown[asking]
    assert '"granted": 6' in shown["runtime show party"]
    assert "party" in shown["runtime threads"]
    assert "book" in shown["runtime history party"]
    again = perform(commands(PAGE), shell, {asking: 10})
    assert '"6 of 8 seats?"' in again[asking]


def test_an_answer_on_other_facts_is_asked_for_again(shell: Shell, tmp_path: Path) -> None:
    (source,) = blocks(PAGE, "python")
    (tmp_path / "desk.py").write_text(source)
    run = ["run", "desk.py", "--json", "--thread"]
    assert shell([*run, "party", "--input", '{"seats": 6}']).code == 10
    assert shell([*run, "other", "--input", '{"seats": 3}']).code == 0
    asked = shell(["resume", "party", "--value", "true", "--json"])
    assert asked.code == 10
    (question,) = asked.json["interrupts"]
    assert (question["value"], question["facts_changed"]) == ("6 of 17 seats?", True)


def test_the_columns_are_those_of_history() -> None:
    names = ["step", "nodes", "commit", *(name for name, _, _ in NUMBERS), "ms", "checkpoint"]
    assert first_column("column") == names


def test_the_hooks_are_those_that_are_looked_for() -> None:
    used = {
        name
        for path in (ROOT / "runtime").rglob("*.py")
        for name in re.findall(r'\.hook\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert set(first_column("name")) == used
    named = re.search(r"or a factory of one; (.*?) need not be\s+named", PAGE, re.DOTALL)
    assert named is not None
    assert tuple(re.findall(r"`(\w+)`", named[1])) == loader.USUAL_NAMES


def test_the_flows_that_come_with_the_project(shell: Shell, tmp_path: Path) -> None:
    burst = "graphs/fraud/burst.jsonl"
    (tmp_path / burst).parent.mkdir(parents=True)
    (tmp_path / burst).write_bytes((ROOT / burst).read_bytes())
    lines = commands(REFERENCE)
    asking = ("E-ana", "--thread pay", "--thread limit", "--thread large", "--thread odd")
    waiting = {line: 10 for line in lines if any(each in line for each in asking) and '"block": true' not in line}
    shown = perform(lines, shell, waiting)
    assert '"status": "paid"' in next(said for line, said in shown.items() if "E-bo" in line)
    assert "book" in shown["runtime history pay"]
    assert '"status": "merged"' in shown["runtime resume limit --value true"]
    assert "land" in shown["runtime history limit"]
    assert "I remember: prefers answers by e-mail" in next(said for line, said in shown.items() if "descale" in line)
    assert "O-1003 is refunded: 640.00" in next(said for line, said in shown.items() if "resume large" in line)
    assert "pay" in shown["runtime history large"]
    assert "prefers answers by e-mail" in shown["runtime memory list support"]
    assert shown[f"runtime ingest {burst}"].startswith("8 events ingested")
    assert '"facts_changed": true' in next(said for line, said in shown.items() if '"block": false' in line)
    assert '"status": "blocked"' in next(said for line, said in shown.items() if '"block": true' in line)
    assert "settle" in shown["runtime history odd"]


def test_every_flow_of_the_project_is_described() -> None:
    flows = [path.name for path in (ROOT / "graphs").iterdir() if (path / "__init__.py").exists()]
    assert {f"graphs.{name}" for name in flows} <= set(re.findall(r"`(graphs\.\w+)`", REFERENCE))
