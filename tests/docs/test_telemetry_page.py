"""docs/telemetry.md: its commands run, its examples work, its tables are those of the code."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from superstep import telemetry
from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.logs import JsonLines
from superstep.runtime.telemetry.switch import active
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("telemetry.md")


def test_the_commands_run(shell: Shell) -> None:
    shown = perform(commands(PAGE), shell)
    assert "0 flows running" in shown["runtime top --once"]


def test_the_examples_work() -> None:
    turning_on, logs = blocks(PAGE, "python")
    ours, handlers = logging.getLogger("superstep"), logging.getLogger("superstep").handlers[:]
    try:
        exec(turning_on, {})
        assert active.telemetry is not None
        assert not active.telemetry.content
        exec(logs, {})
        assert isinstance(ours.handlers[-1].formatter, JsonLines)
    finally:
        telemetry(traces=False, metrics=False)
        ours.handlers[:] = handlers


def test_a_command_with_spans_on_the_console(database_url: str, tmp_path: Path, process_env: dict[str, str]) -> None:
    (line,) = blocks(PAGE, "sh")
    setting, program, *words = line.split()
    name, value = setting.split("=")
    assert program == "runtime"
    env = {**process_env, name: value, "DATABASE_URL": database_url}
    command = [sys.executable, "-m", "superstep.runtime", *words]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert '"name": "invoke_workflow' in done.stderr
    assert '"name": "commit"' in done.stderr
    assert '"name"' not in done.stdout


def test_every_name_is_one_of_the_code_and_the_other_way_round() -> None:
    known = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    named = set(re.findall(r"`((?:gen_ai|superstep|db|error)\.[a-z_.]+)`", PAGE))
    missing: Any = named - known
    assert missing == set()
    unnamed = {value for value in known if value.startswith(("gen_ai.", "superstep.", "db.", "error."))} - named
    assert unnamed == set()
