import json
import os
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph

from superstep.runtime.faults import ConfigError, GraphInvalid, GraphNotFound
from superstep.runtime.loading.loader import load_graph

PACKAGE = "tests.runtime.cli.graphs_for_tests"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (f"{PACKAGE}.counting", f"{PACKAGE}.counting"),
        (f"{PACKAGE}.counting:builder", f"{PACKAGE}.counting"),
        (f"{PACKAGE}.counting:compiled", f"{PACKAGE}.counting:compiled"),
        (f"{PACKAGE}.hooked", f"{PACKAGE}.hooked"),
        (f"{PACKAGE}.various:greet", f"{PACKAGE}.various:greet"),
        (f"{PACKAGE}.various:make", f"{PACKAGE}.various:make"),
        (f"{PACKAGE}.various:make_later", f"{PACKAGE}.various:make_later"),
    ],
)
async def test_a_graph_is_found_and_gets_the_saver(spec: str, name: str) -> None:
    loaded = await load_graph(spec)
    saver = InMemorySaver()
    assert loaded.name == name
    assert loaded.compile(saver).checkpointer is saver
    assert loaded.compile().checkpointer is None


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (f"{PACKAGE}.countng", GraphNotFound, ["no module", "counting"]),
        ("no_such_package.graph", GraphNotFound, ["no module"]),
        (f"{PACKAGE}.counting:bulder", GraphNotFound, ["'bulder'", "builder, compiled", "Did you mean builder?"]),
        (f"{PACKAGE}.various:number", GraphInvalid, ["is a int, not a graph", "greet, remembering"]),
        (f"{PACKAGE}.various", GraphInvalid, ["no attribute graph", "ATTRIBUTE"]),
        (f"{PACKAGE}.various:make_number", GraphInvalid, ["returned a int"]),
        (f"{PACKAGE}.various:make_nothing", GraphInvalid, ["needs arguments"]),
        (f"{PACKAGE}.various:make_trouble", GraphInvalid, ["no graph today"]),
        (f"{PACKAGE}.broken", GraphInvalid, ["no_such_thing_here", "broken.py, line 3: from"]),
        ("./agent.py:graph", GraphNotFound, ["langgraph.json"]),
        ("", GraphNotFound, ["no graph name"]),
    ],
)
async def test_what_is_wrong_is_said(spec: str, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        await load_graph(spec)
    for word in words:
        assert word in str(caught.value)


async def test_a_graph_with_its_own_checkpointer_is_refused() -> None:
    loaded = await load_graph(f"{PACKAGE}.various:remembering")
    with pytest.raises(GraphInvalid, match="own checkpointer"):
        loaded.compile(InMemorySaver())


async def test_a_graph_that_does_not_compile_is_refused() -> None:
    loaded = await load_graph(f"{PACKAGE}.counting:unfinished")
    with pytest.raises(GraphInvalid, match="does not compile"):
        loaded.compile()


GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
{import_line}
class State(TypedDict, total=False):
    x: int
agent = StateGraph(State)
agent.add_node("n", lambda state: {{"x": 1}})
agent.add_edge(START, "n")
"""


def project(folder: Path, graphs: object, **more: object) -> None:
    (folder / "langgraph.json").write_text(json.dumps({"graphs": graphs, **more}))


async def test_names_of_langgraph_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALREADY_SET", "mine")
    monkeypatch.delenv("FROM_FILE", raising=False)
    (tmp_path / "flow_of_test").mkdir()
    (tmp_path / "flow_of_test" / "__init__.py").touch()
    (tmp_path / "flow_of_test" / "tools.py").touch()
    (tmp_path / "flow_of_test" / "main.py").write_text(GRAPH.format(import_line="from . import tools"))
    (tmp_path / "odd-name.py").write_text(GRAPH.format(import_line=""))
    (tmp_path / ".env").write_text("# comment\nexport FROM_FILE='a b'\nALREADY_SET=theirs # no\n")
    graphs = {
        "file": "./flow_of_test/main.py:agent",
        "module": "flow_of_test.main:agent",
        "odd": {"path": "odd-name.py:agent"},
    }
    project(tmp_path, graphs, dependencies=["."], env=".env")
    file, module, odd = [await load_graph(name, folder=tmp_path) for name in ("file", "module", "odd")]
    assert isinstance(file.graph, StateGraph)
    assert file.graph is module.graph
    assert isinstance(odd.graph, StateGraph)
    assert (file.name, odd.name) == ("file", "odd")
    assert (os.environ["FROM_FILE"], os.environ["ALREADY_SET"]) == ("a b", "mine")
    monkeypatch.delenv("FROM_FILE")


async def test_names_of_langgraph_json_are_suggested(tmp_path: Path) -> None:
    project(tmp_path, {"support": "./missing.py:agent"})
    with pytest.raises(GraphNotFound, match="Did you mean support"):
        await load_graph("suport", folder=tmp_path)
    with pytest.raises(GraphNotFound, match="no such file"):
        await load_graph("support", folder=tmp_path)


async def test_files_beside_one_that_is_not_there_are_suggested(tmp_path: Path) -> None:
    (tmp_path / "desk.py").touch()
    with pytest.raises(GraphNotFound, match=r"no file .*desc\.py.*Did you mean desk\.py\?"):
        await load_graph("desc.py", folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["line 1", "not valid JSON"]),
        ("[]", ["JSON object"]),
        ('{"graphs": {"a": "no attribute"}}', ["'a'", "./file.py:attribute"]),
        ('{"env": 3}', ['"env"']),
        ('{"dependencies": "."}', ['"dependencies"']),
        ('{"dependencies": ["./nowhere"]}', ['"dependencies"', "./nowhere"]),
    ],
)
async def test_a_broken_langgraph_json_is_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "langgraph.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        await load_graph("a", folder=tmp_path)
    for word in words:
        assert word in str(caught.value)
