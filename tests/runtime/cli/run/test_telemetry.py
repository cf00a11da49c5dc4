"""`--trace`, `[telemetry]`: what a command sends out, and where what it needs is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

FLOW = """
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from superstep import current_step


class State(TypedDict, total=False):
    n: int


async def ask(state):
    await current_step().fetchval("SELECT 1")
    return {"n": interrupt("how many?")}


graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
example_input = {"n": 0}
"""


@pytest.fixture
def command(process_env: dict[str, str], database_url: str, tmp_path: Path) -> Any:
    """`runtime …` in a process of its own, with variables."""
    (tmp_path / "flow_of_test_telemetry.py").write_text(FLOW)

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**process_env, "DATABASE_URL": database_url, **variables}
        line = [sys.executable, "-m", "superstep.runtime", *words]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)

    return call


def traces(stderr: str) -> list[tuple[str, str]]:
    """Name and trace of each span that the console exporter has printed among other lines."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while (at := stderr.find("{\n", at)) != -1:
        span, length = decoder.raw_decode(stderr[at:])
        found.append((span["name"], span["context"]["trace_id"]))
        at += length
    return found


def test_a_run_and_the_command_that_resumes_it_are_one_trace(command: Any) -> None:
    to = {"OTEL_TRACES_EXPORTER": "console"}
    first = command("run", "flow_of_test_telemetry", "--thread", "t", "--trace", "--json", **to)
    assert first.returncode == 10, first.stderr
    assert json.loads(first.stdout)["status"] == "interrupted"
    second = command("resume", "t", "--value", "3", "--trace", **to)
    assert second.returncode == 0, second.stderr
    spans = traces(first.stderr) + traces(second.stderr)
    assert len({trace for _, trace in spans}) == 1
    names = [name for name, _ in spans]
    assert names.count("invoke_workflow flow_of_test_telemetry") == 2
    assert {"superstep ask", "task ask", "read", "commit"} <= set(names)


def test_the_settings_turn_it_on_and_format_logs(command: Any, tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text('[telemetry]\ntrace = true\nmetrics = true\nlog_format = "json"\n')
    variables = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"}
    done = command("run", "flow_of_test_telemetry", "--thread", "t", "--json", **variables)
    assert done.returncode == 10, done.stderr
    assert "superstep.run.duration" in done.stderr
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"time"')]
    ended = [line for line in logged if line.get("status") == "interrupted"]
    assert [(line["thread_id"], line["graph"]) for line in ended] == [("t", "flow_of_test_telemetry")]


def test_an_exporter_that_is_not_installed_is_named(command: Any) -> None:
    done = command("run", "flow_of_test_telemetry", "--trace", "--json", OTEL_TRACES_EXPORTER="zipkin")
    assert done.returncode == 3
    assert "OTEL_TRACES_EXPORTER" in json.loads(done.stdout)["error"]["message"]
    assert "'zipkin'" in json.loads(done.stdout)["error"]["message"]


def test_a_wrong_setting_is_named(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text('[telemetry]\ntrace = "perhaps"\n')
    done = on_db("threads")
    assert done.code == 3
    assert "runtime.toml, line 2: [telemetry] trace must be true or false" in done.err
