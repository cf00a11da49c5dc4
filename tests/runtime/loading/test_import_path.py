"""The current folder is imported from only for a graph, and only what nobody else has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from superstep.runtime.faults import ConfigError
from superstep.runtime.loading.factories import FactoryCall
from superstep.runtime.loading.loader import load_graph
from superstep.runtime.loading.project import Project, read_project
from tests.support.commands import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = 'import sys\nsys.stderr.write("RAN " + __file__ + "\\n")\nraise ImportError\n'
# Modules that the commands import: of the standard library, of what they depend on, and of what is imported late.
NAMES = (
    "langgraph",
    "asyncpg",
    "rich",
    "jinja2",
    "httpx",
    "pgvector",
    "yaml",
    "json",
    "uuid",
    "sqlite3",
    "email",
    "graphlib",
)
LISTINGS = ("threads", "history x", "show x", "db check", "db url", "models", "prompts list", "resume x", "--version")
GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
{more}
class State(TypedDict, total=False):
    x: int
graph = StateGraph(State)
graph.add_node("n", lambda state: {{"x": 1}})
graph.add_edge(START, "n")
"""


def run(folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "superstep.runtime")) -> tuple[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *program, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "program",
    [
        ("-m", "superstep.runtime"),
        ("-P", "-c", "import sys; from superstep.runtime.cli import main; sys.exit(main())"),
    ],
    ids=["module", "script"],
)
def test_listing_commands_import_nothing_from_the_current_folder(tmp_path: Path, program: tuple[str, ...]) -> None:
    # Python itself looks there first for what `python -m superstep.runtime` imports before a line of ours has run.
    early = ("json", "uuid", "email", "rich") if "-m" in program else ()
    for name in NAMES:
        if name not in early:
            (tmp_path / f"{name}.py").write_text(PLANTED)
    for command in LISTINGS:
        assert "RAN" not in run(tmp_path, *command.split(), program=program)[1], command


def test_a_graph_of_the_folder_does_not_bring_its_neighbours_in(tmp_path: Path) -> None:
    for name in (*NAMES, "types", "logging"):
        if name not in ("json", "uuid", "email", "rich", "types", "logging"):
            (tmp_path / f"{name}.py").write_text(PLANTED)
    (tmp_path / "helper_of_mine.py").write_text("")
    (tmp_path / "agent_of_mine.py").write_text(GRAPH.format(more="import helper_of_mine, yaml, jinja2"))
    out, err = run(tmp_path, "graph", "agent_of_mine")
    assert "RAN" not in err
    assert "n(n)" in out


@pytest.mark.parametrize(("name", "spec"), [("yaml", "yaml"), ("yaml", "yaml:graph"), ("graphlib", "graphlib")])
def test_a_graph_behind_another_module_is_told_and_reached_by_its_file(tmp_path: Path, name: str, spec: str) -> None:
    (tmp_path / f"{name}.py").write_text(GRAPH.format(more=""))
    err = run(tmp_path, "graph", spec)[1]
    assert f"hides {tmp_path / name}.py: name that file instead" in err
    assert "n(n)" in run(tmp_path, "graph", f"{name}.py")[0]


def test_folders_come_last_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["first"])
    (tmp_path / "src").mkdir()
    (tmp_path / "lib" / "src").mkdir(parents=True)
    (tmp_path / "lib" / "src" / "__init__.py").touch()
    project = Project(tmp_path, dependencies=(tmp_path / ".", tmp_path / "lib"))
    project.make_importable()
    project.make_importable()
    assert sys.path == ["first", str(tmp_path), str(tmp_path / "src"), str(tmp_path / "lib")]


@pytest.mark.parametrize("spec", ["flow_of_test_src.main", "src/flow_of_test_src/main.py:graph", "by_file", "by_name"])
def test_a_src_layout_needs_no_install(tmp_path: Path, spec: str) -> None:
    package = tmp_path / "src" / "flow_of_test_src"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tools.py").write_text("print('tools imported')")
    (package / "main.py").write_text(
        GRAPH.format(more="from flow_of_test_src import tools\nfrom . import tools as same\nassert tools is same")
    )
    (tmp_path / "langgraph.json").write_text(
        '{"dependencies": ["."], "graphs": {"by_file": "./src/flow_of_test_src/main.py:graph",'
        '"by_name": "flow_of_test_src.main:graph"}}'
    )
    out, err = run(tmp_path, "graph", spec)
    assert ("n(n)" in out, err) == (True, "tools imported\n")


def test_what_langgraph_json_lacks_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        '{"env": ".nowhere", "dependencies": ["click>=8", "rich[jupyter]", "no-such-package-of-ours[x]>=1", "git+https://x/y"]}'
    )
    first, second = read_project(tmp_path).warnings(imports=True, runs=False)
    assert "no-such-package-of-ours[x]>=1, not installed here" in first
    assert re.search(r"pip install 'no-such-package-of-ours\[x\]>=1'$", first)
    assert ".nowhere does not exist" in second
    for command, warned_of in (("models", 2), ("threads", 1)):  # a listing imports nothing of the project
        assert run(tmp_path, command)[1].count("Warning: ") == warned_of


@pytest.mark.parametrize("entry", [{"index": {"embed": "openai:x", "dims": 3}}, {"path": "./s.py:store"}])
async def test_a_store_is_refused_by_name_where_a_graph_runs(tmp_path: Path, entry: object) -> None:
    (tmp_path / "flow_of_test_store.py").write_text(GRAPH.format(more=""))
    (tmp_path / "langgraph.json").write_text(json.dumps({"store": entry}))
    assert (await load_graph("flow_of_test_store.py", folder=tmp_path)).name
    with pytest.raises(ConfigError, match='"store" asks for a store'):
        await load_graph("flow_of_test_store.py", folder=tmp_path, call=FactoryCall(runs=True))


def test_a_checkpointer_of_langgraph_json_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text('{"checkpointer": {"path": "./app.py:saver"}}')
    project = read_project(tmp_path)
    assert project.warnings(imports=True, runs=False) == ()
    (warning,) = project.warnings(imports=False, runs=True)
    assert '"checkpointer" is for the Agent Server and is not used here' in warning
