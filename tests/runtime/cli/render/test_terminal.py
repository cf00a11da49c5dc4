"""What a model, a database or a user has written never drives the terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from tests.runtime.cli.graphs_for_tests.evil import CLIPBOARD
from tests.support.commands import GRAPHS

THREAD = f"t {CLIPBOARD}\u202e';x"
# What rich itself sends: colours, and the moves, erasures and cursor modes of a live display.
OWN = re.compile(r"\x1b\[[\d;]*m|\x1b\[\d*[AGK]|\x1b\[2K|\x1b\[\?25[lh]|\r\n|\r")
EVIL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def on_terminal(env: dict[str, str], *arguments: str) -> str:
    """Run a command on a terminal of its own, and return all that it sends there."""
    ours, theirs = pty.openpty()
    env = {**env, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "superstep.runtime", *arguments]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs):
        os.close(theirs)
        sent = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the last one has closed it
                break
            if not piece:
                break
            sent += piece
    os.close(ours)
    return sent.decode()


@pytest.mark.parametrize("mode", ["ok", "ask", "fail"])
def test_nothing_gets_through(process_env: dict[str, str], database_url: str, mode: str) -> None:
    given = json.dumps({"mode": mode})
    name = f"{GRAPHS}.evil"
    commands: list[Any] = [["run", name, "--thread", THREAD, "--input", given]]
    if mode == "ok":
        more = {"--stream updates": "u", "--stream values": "v", "--json": "j", "--debug": "d"}
        commands += [
            ["run", name, "--thread", thread, "--input", given, *flag.split()] for flag, thread in more.items()
        ]
    if mode == "fail":
        commands += [["run", name, "--thread", "d", "--input", given, "--debug"]]
    commands += [["show", THREAD], ["show", THREAD, "--json"], ["history", THREAD], ["threads"], ["threads", "--json"]]
    commands += [
        ["resume", THREAD],
        ["resume", THREAD, "--checkpoint", CLIPBOARD],
        ["show", CLIPBOARD],
        ["graph", name],
    ]
    commands += [["run", name, "--input", CLIPBOARD], ["run", CLIPBOARD], ["history", THREAD, CLIPBOARD], [CLIPBOARD]]
    for command in commands:
        sent = on_terminal(process_env, *command, "--db", database_url)
        rest = OWN.sub("", sent)
        assert not EVIL.search(rest), (command, EVIL.search(rest), rest)
        assert "\x1b]" not in sent, command


def test_hints_can_be_typed(start: Any, database_url: str) -> None:
    asked = start("run", f"{GRAPHS}.evil", "--thread", THREAD, "--input", '{"mode": "ask"}', "--db", database_url)
    out = asked.communicate(timeout=60)[0]
    hint = next(line for line in out.splitlines() if line.startswith("Answer with: runtime "))
    command = hint.removeprefix("Answer with: runtime ").replace("JSON", "1")
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
    ).stdout
    assert words.split("\0")[:2] == ["resume", THREAD]
    assert shlex.split("resume 'a b'") == ["resume", "a b"]


def test_a_plain_thread_is_not_quoted(start: Any, database_url: str) -> None:
    asked = start("run", f"{GRAPHS}.evil", "--thread", "t-1", "--input", '{"mode": "ask"}', "--db", database_url)
    assert "runtime resume t-1 --value JSON" in asked.communicate(timeout=60)[0]
