"""Which module a name means: flows of this project have a plain name, which gives way to the caller's own modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
OURS = "superstep.graphs.underwriting"
GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
class State(TypedDict, total=False):
    x: int
graph = StateGraph(State)
graph.add_node("n", lambda state: {"x": 1})
graph.add_edge(START, "n")
"""
PROGRAM = """
import asyncio, json, sys
from superstep.runtime.faults import RuntimeFault
from superstep.runtime.loading.loader import load_graph
found = []
for spec in sys.argv[1:]:
    try:
        loaded = asyncio.run(load_graph(spec))
        found.append([loaded.name, loaded.module.__name__])
    except RuntimeFault as error:
        found.append([type(error).__name__, str(error)])
top = [name for name in sys.modules if name.partition(".")[0] == "graphs"]
print(json.dumps({"found": found, "top": top}))
"""


@pytest.fixture(params=["checkout", "installed"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import `superstep` from: one that also has our `graphs` at its top, and one that has not."""
    if request.param == "checkout":
        return ROOT
    folder = tmp_path_factory.mktemp("installed")
    (folder / "superstep").symlink_to(ROOT / "superstep")
    return folder


def load(folder: Path, library: Path, *specs: str) -> tuple[list[list[str]], list[str]]:
    """Load graphs in a process of its own that starts in a folder; the modules below the top-level `graphs` too."""
    # Without the packages' own `.pth` files, which may put the checkout on the path.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [folder, library, *packages]))}
    command = [sys.executable, "-S", "-c", PROGRAM, *specs]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    answer: Any = json.loads(done.stdout)
    return answer["found"], answer["top"]


def own(folder: Path, **files: str) -> Path:
    """A project with a folder `graphs`; the names of files have `__` for a folder."""
    for name, text in files.items():
        path = folder / "graphs" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_in_a_checkout_a_flow_is_loaded_once() -> None:
    found, top = load(ROOT, ROOT, "graphs.underwriting", OURS, "graphs.underwriting:graph", f"{OURS}:build")
    assert [module for _, module in found] == [OURS] * 4
    assert [name for name, _ in found] == ["graphs.underwriting"] * 3 + ["graphs.underwriting:build"]
    assert top == []


def test_in_a_checkout_a_flow_named_by_its_file_is_loaded_once() -> None:
    program = """
import json, sys
from pathlib import Path
from superstep.runtime.loading.modules import import_file
root = Path.cwd()
sys.path.insert(0, str(root))
module = import_file(root / "graphs/underwriting/__init__.py", root, entry="credit")
print(json.dumps([module.__name__, [name for name in sys.modules if name.partition(".")[0] == "graphs"]]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [OURS, []]


def test_without_modules_of_that_name_the_flows_are_ours(tmp_path: Path, library: Path) -> None:
    found, top = load(tmp_path, library, "graphs.underwriting", OURS)
    assert found == [["graphs.underwriting", OURS]] * 2
    assert top == []


@pytest.mark.parametrize(
    ("library", "init"),
    # Not a plain folder beside the checkout: Python prefers a package anywhere on the path to it.
    [("checkout", {"__init__": ""}), ("installed", {"__init__": ""}), ("installed", {})],
    indirect=["library"],
)
def test_a_project_with_such_a_flow_runs_its_own(tmp_path: Path, library: Path, init: dict[str, str]) -> None:
    own(tmp_path, **init, underwriting=GRAPH, mine=GRAPH)
    found, _ = load(tmp_path, library, "graphs.underwriting", "graphs.mine", OURS)
    assert found == [
        ["graphs.underwriting", "graphs.underwriting"],
        ["graphs.mine", "graphs.mine"],
        [OURS, OURS],  # the short name would resume theirs
    ]


@pytest.mark.parametrize("init", [{"__init__": "raise SystemExit('not to be imported')"}, {}], ids=["package", "plain"])
def test_a_project_without_such_a_flow_runs_ours(tmp_path: Path, library: Path, init: dict[str, str]) -> None:
    own(tmp_path, **init, mine=GRAPH)
    found, top = load(tmp_path, library, "graphs.underwriting", OURS)
    assert found == [["graphs.underwriting", OURS]] * 2
    assert top == []


def test_a_module_of_that_name_has_no_flows(tmp_path: Path, library: Path) -> None:
    (tmp_path / "graphs.py").write_text("raise SystemExit('not to be imported')")
    found, top = load(tmp_path, library, "graphs.underwriting")
    assert found == [["graphs.underwriting", OURS]]
    assert top == []


def test_a_folder_without_init_is_the_projects_own_flow(tmp_path: Path, library: Path) -> None:
    folder = tmp_path / "graphs" / "underwriting"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(GRAPH)
    found, _ = load(tmp_path, library, OURS, "graphs.underwriting.mine")
    assert found[0][1] == OURS
    if library != ROOT:  # there, Python prefers the package beside `superstep`
        assert found == [[OURS, OURS], ["graphs.underwriting.mine", "graphs.underwriting.mine"]]


def test_a_flow_of_the_project_that_fails_is_not_replaced_by_ours(tmp_path: Path, library: Path) -> None:
    own(tmp_path, __init__="", underwriting="import no_such_thing_here")
    ((kind, message),), _ = load(tmp_path, library, "graphs.underwriting")
    assert kind == "GraphInvalid"
    assert "no_such_thing_here" in message


def test_a_misspelt_flow_is_corrected_by_its_plain_name(tmp_path: Path, library: Path) -> None:
    found, top = load(tmp_path, library, "graphs.underwritng", "graphs.underwriting.flo")
    assert [kind for kind, _ in found] == ["GraphNotFound"] * 2
    assert "Did you mean graphs.underwriting" in found[0][1]
    assert "There is no module graphs.underwriting.flo," in found[1][1]
    assert "graphs.underwriting.flow" in found[1][1]
    assert top == []
