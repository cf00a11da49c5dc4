"""What a command writes arrives whatever the encoding, and under `--json` standard output has the answer alone."""

from __future__ import annotations

import codecs
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.runtime.cli.render.streams import ERRORS, encodable, reserve_stdout, standing_streams
from tests.support.commands import GRAPHS, Runtime

ENCODINGS = ["cp1252", "ascii", "latin-1", "cp437", "koi8-r", "shift_jis", "utf-16", "utf-8"]
LISTINGS = ["threads", "history t", "show t", "prompts list", "prompts show greet", "models", "db check"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=st.text())
def test_any_text_fits_any_encoding(encoding: str, text: str) -> None:
    shown = encodable(text, encoding)
    assert encodable(shown, encoding) == shown
    assert all(c in shown for c in text if c.isascii())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_an_encoding_has_stays(text: str) -> None:
    assert encodable(text, "utf-8") == text


def test_our_own_marks_read_well_in_ascii() -> None:
    assert encodable("production → 1 · more…", "ascii") == "production -> 1 - more..."
    assert encodable("你 \U0001f600 \udcff", "ascii") == "\\u4f60 \\U0001f600 \\udcff"
    assert codecs.lookup_error(ERRORS)


@pytest.fixture
def filled(on_db: Runtime, tmp_path: Path) -> Runtime:
    """A database with a thread and a prompt whose texts no old encoding has."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "greet.md").write_text("---\ndescription: 你 → 好\n---\nuser:\nhi ✓\n", encoding="utf-8")
    assert on_db("prompts", "add", "--label", "production").code == 0
    assert on_db("run", f"{GRAPHS}.various:greet", "--input", '"你"', "--thread", "t").code == 0
    return on_db


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_listings_and_runs_survive(
    filled: Runtime, start: Any, process_env: dict[str, str], database_url: str, encoding: str
) -> None:
    process_env["PYTHONIOENCODING"] = encoding
    command = f"run {GRAPHS}.various:greet --input '\"x\"'"
    commands = [
        *(each.split() for each in LISTINGS),
        ["run", f"{GRAPHS}.various:greet", "--input", '"→你"'],
        ["history", "你"],
    ]
    running = [start(*each, "--db", database_url, encoding=encoding) for each in commands]
    for each, process in zip(commands, running, strict=True):
        out, err = process.communicate(timeout=60)
        assert process.returncode == (3 if "你" in each else 0), (each, err)
        assert "UnicodeEncodeError" not in out + err, (each, err)
    answer = start("show", "t", "--json", "--db", database_url, encoding=encoding).communicate(timeout=60)[0]
    assert json.loads(answer)["values"] == "hello 你", command


@pytest.mark.parametrize("command", ["run", "graph", "show", "resume"])
def test_json_is_alone_whatever_prints(start: Any, on_db: Runtime, database_url: str, command: str) -> None:
    name = f"{GRAPHS}.chatty"
    if command in ("show", "resume"):
        assert start("run", name, "--thread", "t", "--db", database_url).wait(60) == 0
    rest = {"run": [name, "--json"], "graph": [name], "show": ["t", "--json"], "resume": ["t", "--json"]}[command]
    process = start(command, *rest, "--db", database_url)
    out, err = process.communicate(timeout=60)
    for words in ("IMPORT prints", "EXIT prints"):
        assert words in err
    assert "prints\n" not in out
    if command == "graph":
        assert "prints --> starts" in out
        return
    assert json.loads(out)["thread_id"]
    if command == "run":
        for words in ("NODE prints", "past sys.stdout", "NODE logs", "descriptor", "CHILD prints", "SHELL prints"):
            assert words in err


def test_a_program_that_calls_main_gets_its_streams_back(capsys: pytest.CaptureFixture[str]) -> None:
    stdout, stderr, errors = sys.stdout, sys.stderr, sys.stdout.errors
    with standing_streams(keep=False):
        reserve_stdout()
        reserve_stdout()
        print("beside the answer")
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == (stdout, stderr, errors)
    print("afterwards")
    assert capsys.readouterr() == ("afterwards\n", "beside the answer\n")


def test_its_descriptor_too(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom superstep.runtime.cli import main\n"
        "main(['history', 'x', '--json', '--db', 'postgresql://u@127.0.0.1:1/d'])\nos.write(1, b'after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answer, _, after = done.stdout.rpartition("}\n")
    assert (json.loads(answer + "}")["error"]["type"], after) == ("DatabaseUnavailable", "after")


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_closed_streams_are_no_stumbling_block(
    process_env: dict[str, str], database_url: str, on_db: Runtime, which: str
) -> None:
    for arguments in (["threads"], ["threads", "--json"], ["run", f"{GRAPHS}.counting", "--json"], ["history", "no"]):
        command = [sys.executable, "-m", "superstep.runtime", *arguments, "--db", database_url]
        closing = f'exec "$@" {1 if which == "stdout" else 2}>&-'
        done = subprocess.run(["sh", "-c", closing, "sh", *command], env=process_env, capture_output=True, text=True)
        assert done.returncode == (3 if "no" in arguments else 0), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert (done.stdout if which == "stdout" else done.stderr) == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_and_no_traceback(start: Any, database_url: str, on_db: Runtime) -> None:
    for arguments in (["threads"], ["threads", "--json"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            process = start(*arguments, *(["--db", database_url] if len(arguments[0]) > 6 else []), stdout=full)
            err = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "No space left" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["history", "nobody", "--json"], 3, "ThreadNotFound"),
        (["show", "nobody", "--json"], 3, "ThreadNotFound"),
        (["prompts", "show", "nothing", "--json"], 3, "PromptNotFound"),
        (["threads", "--limit", "0", "--json"], 2, "BadParameter"),
        (["threads", "--no-such", "--json"], 2, "NoSuchOption"),
        (["history", "--json"], 2, "MissingParameter"),
    ],
)
def test_errors_are_json_too(on_db: Runtime, arguments: list[str], code: int, kind: str) -> None:
    done = on_db(*arguments)
    assert (done.code, done.json["error"]["type"]) == (code, kind)
    assert done.err


def test_a_stream_without_an_encoding_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with standing_streams(keep=False):
        reserve_stdout()
    assert sys.stdout is out
    assert os.fstat(1)
