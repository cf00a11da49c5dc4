"""`--context` and `--config` reach the nodes, the factory and LangGraph, in a run and in its resume."""

from pathlib import Path

import pytest

from tests.runtime.cli.graphs_for_tests import configured
from tests.support.commands import GRAPHS, Runtime

NAME = f"{GRAPHS}.configured"
CONFIG = '{"configurable": {"tone": "kind"}, "tags": ["blue"], "metadata": {"run": 7}, "recursion_limit": 9}'


def test_a_run_and_its_resume_get_them(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('{"user": "Ada", "limit": 5}')
    given = ("--context", "@context.json", "--config", CONFIG)
    seen = {"context": ["Ada", 5], "configurable": {"tone": "kind", "thread_id": "t"}, "tags": ["blue"], "run": 7}
    assert on_db("run", NAME, "--thread", "t", *given, "--json").json["values"] == {"seen": seen}
    assert on_db("run", NAME, "--input", '{"ask": true}', "--thread", "u", *given).code == 10
    resumed = on_db("resume", "u", "--value", "1", *given, "--json").json
    assert resumed["values"]["seen"]["context"] == ["Ada", 5]
    assert on_db("run", NAME, "--context", '{"user": "Bob"}', "--json").json["values"]["seen"]["context"] == ["Bob", 3]


def test_limits_of_langgraph_hold(on_db: Runtime) -> None:
    done = on_db("run", f"{NAME}:endless", "--input", "{}", "--config", '{"recursion_limit": 3}', "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "GraphRecursionError")


def test_a_settings_file_and_a_config_go_together(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[run]\nmax_attempts = 0\n")
    (tmp_path / "run.json").write_text(CONFIG)
    both = on_db("run", NAME, "--config", "other.toml", "--config", "@run.json", "--json")
    assert (both.code, both.json["error"]["type"]) == (3, "ConfigError")
    (tmp_path / "other.toml").write_text("[run]\nmax_attempts = 2\n")
    both = on_db("--config", "@run.json", "run", NAME, "--config", "other.toml", "--json")
    assert both.json["values"]["seen"]["run"] == 7


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--config", "{"], "--config is not JSON"),
        (["--config", "[1]"], "must be a JSON object"),
        (["--config", "@nowhere"], "--config (nowhere) cannot be read"),
        (["--config", '{"recursion_limt": 5}'], "Did you mean 'recursion_limit'?"),
        (["--config", '{"callbacks": []}'], "unknown key 'callbacks'"),
        (["--config", '{"recursion_limit": "5"}'], "recursion_limit must be a whole number"),
        (["--config", '{"configurable": {"thread_id": "x"}}'], "given with --thread"),
        (["--config", '{"configurable": {"__pregel_resuming": true}}'], "LangGraph's own"),
        (["--context", "Ada"], "--context is not JSON"),
        (["--context", '{"usr": "Ada"}'], "unknown field 'usr'"),
        (["--context", '{"user": 5}'], "user: Input should be a valid string"),
        (["--context", '{"limit": 5}'], "user: Field required"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(on_db: Runtime, given: list[str], words: str) -> None:
    done = on_db("run", NAME, *given, "--json")
    assert (done.code, on_db("threads", "--json").json) == (3, [])
    assert words in done.json["error"]["message"]


def test_a_config_is_for_runs(on_db: Runtime) -> None:
    assert "here it is a file" in on_db("threads", "--config", "{}").err
    assert on_db("threads", "--config", "nowhere.toml").code == 3


def test_a_factory_gets_them_and_is_left_open_for_the_run(on_db: Runtime) -> None:
    configured.events.clear()
    spec, given = f"{NAME}:opened", ("--context", '{"user": "Ada"}')
    assert on_db("run", spec, "--thread", "t", *given).code == 0
    assert configured.events == ["open t Ada", "close"]
    assert on_db("run", spec, "--input", '{"ask": true}', "--thread", "u").code == 10
    assert on_db("show", "u").code == 0
    assert on_db("resume", "u", "--value", "1", *given).code == 0
    assert on_db("graph", spec).code == 0
    assert on_db("run", spec, "--input", '{"no": 1}').code == 3
    opened, closed = (configured.events[at::2] for at in (0, 1))
    assert opened == ["open t Ada", "open u None", "open None None", "open u Ada", "open None None", opened[5]]
    assert closed == ["close"] * 6


@pytest.mark.parametrize("spec", ["flow_of_test_file.py", "./flow_of_test_file.py:graph", "odd-name.py:graph"])
def test_a_graph_by_its_file_is_run_and_resumed(on_db: Runtime, tmp_path: Path, spec: str) -> None:
    source = Path(configured.__file__).read_text()
    (tmp_path / "flow_of_test_file.py").write_text(source)
    (tmp_path / "odd-name.py").write_text(source)
    run = on_db("run", spec, "--input", '{"ask": true}', "--thread", "t", "--json").json
    assert (run["status"], run["graph"]) == ("interrupted", "flow_of_test_file" if "flow" in spec else "odd-name.py")
    assert on_db("resume", "t", "--value", "1").code == 0
