"""LangGraph's private names are what the installed LangGraph says they are, and stand in one room only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import langgraph._internal._constants as theirs
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.config import get_config

import superstep
from superstep.checkpointer.langgraph import channels, keys
from superstep.checkpointer.langgraph.place import graph_namespace, node_of_callback, path_text, task_place
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

SAME = {
    "RUNTIME": theirs.CONFIG_KEY_RUNTIME,
    "CHECKPOINTER": theirs.CONFIG_KEY_CHECKPOINTER,
    "TASK_ID": theirs.CONFIG_KEY_TASK_ID,
    "SEND": theirs.CONFIG_KEY_SEND,
    "READ": theirs.CONFIG_KEY_READ,
    "CACHE": theirs.CONFIG_KEY_CACHE,
    "DURABILITY": theirs.CONFIG_KEY_DURABILITY,
    "CHECKPOINT_MAP": theirs.CONFIG_KEY_CHECKPOINT_MAP,
    "RESUMING": theirs.CONFIG_KEY_RESUMING,
    "SENDS": theirs.TASKS,
    "NO_WRITES": theirs.NO_WRITES,
    "ERROR_SOURCE_NODE": theirs.ERROR_SOURCE_NODE,
    "INTERRUPT": theirs.INTERRUPT,
    "PUSH": theirs.PUSH,
    "NULL_TASK": theirs.NULL_TASK_ID,
}
ROOT = Path(superstep.__file__).parent
HOME = "checkpointer/langgraph/"


@pytest.mark.parametrize("name", SAME)
def test_the_name_is_the_installed_one(name: str) -> None:
    assert getattr(keys, name) == SAME[name]


def test_every_constant_is_compared() -> None:
    """Those that LangGraph has no constant for are in its source as they are here."""
    literal = {
        "ERROR_HANDLER": "",
        "CACHED_MARK": "",
        "DELTA_COUNTERS": "",
        "BRANCH": "to:{}",
        "JOIN": "{'+'.join(starts)}:{end}",
        "STEP_TAG": "{step}",
    }
    ours = {name for name in keys.__all__ if name.isupper()}
    assert ours == set(SAME) | set(literal) | {"FORMAT_OF_TASK_IDS"}
    source = "".join(file.read_text() for file in _files_of("langgraph"))
    for name, rest in literal.items():  # of a prefix, what LangGraph puts behind it
        assert f'"{getattr(keys, name)}{rest}"' in source, name
    assert f'checkpoint["v"] >= {keys.FORMAT_OF_TASK_IDS}:' in source


def _files_of(package: str) -> Iterator[Path]:
    import importlib.util

    spec = importlib.util.find_spec(package)
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        yield from Path(folder).rglob("*.py")


def test_the_name_for_listings_is_langgraphs() -> None:
    assert channels.QUESTIONS == INTERRUPT


def test_no_private_name_stands_outside_of_its_room() -> None:
    private = {
        *SAME.values(),
        "langgraph_node",
        "langgraph_path",
        keys.DELTA_COUNTERS,
        keys.ERROR_HANDLER,
        keys.STEP_TAG,
    }
    private -= {keys.NULL_TASK}  # nil UUIDs are anybody's
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for part in ("checkpointer", "graphs", "prompts", "providers", "runtime")
        for file in sorted((ROOT / part).rglob("*.py"))
        if HOME not in file.as_posix()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and (node.value in private or node.value.startswith("__pregel"))
    ]  # fmt: skip
    imports = [
        f"{file.relative_to(ROOT)}: {module}"
        for file in sorted(ROOT.rglob("*.py"))
        for module in _imported(file)
        if module.startswith("langgraph._internal")
    ]
    assert found + imports == []


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


async def test_the_place_of_a_node_is_read_off_its_config() -> None:
    seen: list[Any] = []

    async def node(state: Any) -> Any:
        seen.extend((task_place(), get_config()))
        return {"n": 1}

    saver = InMemorySaver()
    graph = chain(saver, node)  # type: ignore[arg-type]
    await graph.ainvoke({"n": 0}, {"configurable": {"thread_id": "t"}})
    place, config = seen
    assert (place.saver, place.thread_id, place.ns, place.node, place.attempt) == (saver, "t", "", "node", 1)
    assert place.callers == {}
    assert list(place.checkpoint_map) == [""]
    assert place.task_id == config["configurable"][keys.TASK_ID]
    assert place.run_key is keys.run_key(config["configurable"]) is not None


async def test_without_a_checkpointer_there_is_no_place() -> None:
    seen: list[Any] = []

    async def node(state: Any) -> Any:
        seen.append(task_place())
        return {"n": 1}

    await chain(None, node).ainvoke({"n": 0})  # type: ignore[arg-type]
    assert seen == [None]
    with pytest.raises(RuntimeError):
        task_place()


@pytest.mark.parametrize(
    ("task_ns", "path", "graph"),
    [
        ("node:1", ("__pregel_pull", "node"), ""),
        ("agent:1|tools:2", ("__pregel_push", 0, False), "agent:1"),
        ("entry:1|task:2", ("__pregel_push", ("__pregel_pull", "entry"), 0, True), ""),
        (
            "a:0|entry:1|task:2|task:3",
            ("__pregel_push", ("__pregel_push", ("__pregel_pull", "entry"), 0, True), 1, True),
            "a:0",
        ),
        ("node:1|handler:2", ("__pregel_pull", "node", "node_error_handler", "handler"), ""),
    ],
)
def test_the_barrier_of_a_task_is_its_graphs(task_ns: str, path: tuple[Any, ...], graph: str) -> None:
    assert graph_namespace(task_ns, path) == graph


def test_callbacks_inside_a_node_are_not_the_node() -> None:
    metadata = {"langgraph_node": "plan"}
    assert node_of_callback("plan", ["graph:step:1"], metadata) == "plan"
    assert node_of_callback("model", ["graph:step:1"], metadata) is None
    assert node_of_callback("plan", ["seq:step:1"], metadata) is None
    assert node_of_callback("plan", None, None) is None


def test_a_marked_result_without_output_is_what_langgraph_would_have_made() -> None:
    assert keys.unmark([(keys.NO_WRITES, "superstep:1")]) == ("superstep:1", [(keys.NO_WRITES, None)])
    assert keys.unmark([(keys.NO_WRITES, "superstep:1"), ("n", 1)]) == ("superstep:1", [("n", 1)])
    failed = [(keys.NO_WRITES, "superstep:1"), ("n", 1), ("__error__", ValueError())]
    assert keys.unmark(failed)[1] == failed[2:]


@pytest.mark.parametrize("path", [("__pregel_pull", "node"), ("__pregel_push", 12, False), ("a", ("b", 3), True)])
def test_paths_are_written_as_langgraph_writes_them(path: tuple[Any, ...]) -> None:
    from langgraph.pregel._algo import task_path_str

    assert path_text(path) == task_path_str(path)
