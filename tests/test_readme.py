"""Every command and example of the README, run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "BUREAU_URL")
    scripts = str(Path(sys.executable).parent)
    return {
        **{key: value for key, value in os.environ.items() if key not in keys},
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{scripts}:{os.environ['PATH']}",
    }


def run(command: list[str], environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_is_short_and_prints_what_it_says(environment: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 25
    (tmp_path / "example.py").write_text(
        example.replace("from_conn_string()", "from_conn_string(__import__('os').environ['DATABASE_URL'])")
    )
    assert run([sys.executable, "example.py"], environment, tmp_path) == "[30, 70]\n"


def test_every_command_is_known() -> None:
    assert COMMANDS == ["make demo", "runtime run graphs.underwriting", "runtime threads", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("runtime ")])
def test_runtime_commands(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    run([sys.executable, "-m", *command.split()], environment, tmp_path)


def test_make_demo_runs_the_demonstration(environment: dict[str, str], tmp_path: Path) -> None:
    """The target itself only adds the virtual environment, which is the one that runs this test."""
    recipe = re.search(r"^demo:.*\n\t@?(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe.group(1) == "$(BIN)/python -m graphs.underwriting.demo"
    shown = run([sys.executable, "-m", "graphs.underwriting.demo"], environment, tmp_path)
    assert '"outcome": "approve"' in shown
    assert "never exceeded" in shown
    assert re.search(r"^ +5 +commit +(direct|replay)", shown, re.MULTILINE)


def test_commands_of_the_table_exist(environment: dict[str, str], tmp_path: Path) -> None:
    helped = run([sys.executable, "-m", "runtime", "--help"], environment, tmp_path)
    for name in re.findall(r"`runtime (\w+)", README):
        assert re.search(rf"^ +{name}\b", helped, re.MULTILINE), name


def test_the_settings_shown_are_accepted(environment: dict[str, str], tmp_path: Path) -> None:
    (settings,) = blocks("toml")
    tomllib.loads(settings)
    (tmp_path / "runtime.toml").write_text(settings)
    run([sys.executable, "-m", "runtime", "threads"], environment, tmp_path)
