"""Installed beside a user's project that has names of ours: each program gets its own.

The five folders of this project have common names. A user's project may have all of them, as modules, as packages or as
plain folders; each name in each form shadows, or is shadowed by, whatever an installed distribution calls the same.
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import PARTS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packaging.conftest import Environment

# Where each form keeps the module that the user's programs import.
FORMS = {
    "module": "{name}.py",
    "package": "{name}/__init__.py",
    "folder": "{name}/inner.py",
}

OWN = """
from typing import TypedDict

from langgraph.graph import START, StateGraph

OWNER = "the user's {name}"


class S(TypedDict):
    n: int


graph = StateGraph(S).add_node("of_{name}", lambda s: {{"n": 1}}).add_edge(START, "of_{name}").compile()
"""

LIB = """
{imports}
import superstep

for name in superstep.__all__:
    getattr(superstep, name)
import superstep.checkpointer, superstep.graphs, superstep.prompts, superstep.providers, superstep.runtime

print([{owners}])
"""

FLOW = """
from typing import TypedDict

from langgraph.graph import START, StateGraph

{imports}
from superstep import TransactionalSaver, chat_model, current_step, prompt, transactional


class S(TypedDict):
    n: int
    owners: list[str]


async def read(state):
    n = await current_step().fetchval("SELECT $1::int + 1", state["n"])
    return {{"n": n, "owners": [{owners}]}}


graph = StateGraph(S).add_node(read).add_edge(START, "read").compile()
"""

OWNERS = [f"the user's {name}" for name in PARTS]


def dotted(form: str, name: str) -> str:
    return f"{name}.inner" if form == "folder" else name


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """The form that all five names have in the project."""
    found: str = request.param
    return found


@pytest.fixture
def project(form: str, tmp_path: Path) -> Path:
    """A user's project with all five names in one form, a program and a flow that import them."""
    imports = "\n".join(f"from {dotted(form, name)} import OWNER as {name}_owner" for name in PARTS)
    owners = ", ".join(f"{name}_owner" for name in PARTS)
    for name in PARTS:
        file = tmp_path / FORMS[form].format(name=name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(OWN.format(name=name))
    (tmp_path / "lib.py").write_text(LIB.format(imports=imports, owners=owners))
    (tmp_path / "mine.py").write_text(FLOW.format(imports=imports, owners=owners))
    return tmp_path


@pytest.fixture(params=["from_wheel", "from_sdist"])
def environment(request: pytest.FixtureRequest) -> Environment:
    """An environment with the wheel, and one with the sdist."""
    found: Environment = request.getfixturevalue(request.param)
    return found


def test_a_program_gets_its_own_modules_and_every_public_name(environment: Environment, project: Path) -> None:
    assert environment.run("python", "lib.py", cwd=project) == f"{OWNERS}\n"


def test_a_flow_gets_its_own_modules_and_runs(environment: Environment, project: Path, database_url: str) -> None:
    shown = environment.run(
        "runtime", "run", "mine", "--input", '{"n": 1}', "--json", "--db", database_url, cwd=project
    )
    report = json.loads(shown)
    assert report["status"] == "completed"
    assert report["values"] == {"n": 2, "owners": OWNERS}


def test_a_flow_may_have_one_of_our_names(from_wheel: Environment, form: str, project: Path) -> None:
    """`runtime graph providers`, and so on: the user's, in one process that starts as the command does."""
    names = [dotted(form, name) for name in PARTS]
    program = f"from superstep.runtime.cli import main\nfor name in {names}:\n    assert main(['graph', name]) == 0"
    shown = from_wheel.run("python", "-I", "-c", program, cwd=project)
    for name in PARTS:
        assert f"of_{name}" in shown


def test_old_names_are_gone(environment: Environment, tmp_path: Path) -> None:
    """Imports of 0.1.0 fail, rather than load a module under a second name."""
    program = f"""
for name in {PARTS!r}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    shown = environment.run("python", "-c", program, cwd=tmp_path)
    assert shown.splitlines() == [f"No module named '{name}'" for name in PARTS]


def test_the_bundled_flow_has_its_short_name(environment: Environment, tmp_path: Path) -> None:
    assert "commit" in environment.run("runtime", "graph", "graphs.underwriting", cwd=tmp_path)


def test_the_command_knows_its_version(environment: Environment, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert environment.run("runtime", "--version", cwd=tmp_path) == f"runtime {version}\n"
