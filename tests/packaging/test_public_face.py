"""`superstep` itself: names that are loaded when they are used, and cost nothing before."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import superstep
from tests.packaging.conftest import ROOT

FACE = Path(superstep.__file__)


def typed_homes() -> dict[str, str]:
    """Module by name, from the imports that only type checkers read."""
    blocks = [node for node in ast.parse(FACE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_the_three_lists_of_names_agree() -> None:
    """What loads lazily, what `import *` gives, and what type checkers see."""
    assert len(set(superstep.__all__)) == len(superstep.__all__)
    assert set(superstep.__all__) == set(typed_homes()) == set(superstep._HOME)
    assert set(superstep.__all__) <= set(dir(superstep))


@pytest.mark.parametrize("name", superstep.__all__)
def test_a_name_is_what_its_home_has(name: str) -> None:
    value = getattr(superstep, name)
    assert value is getattr(import_module(superstep._HOME[name]), name)
    assert value is getattr(import_module(typed_homes()[name]), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'superstep' has no attribute 'checkpoint_saver'"):
        _ = superstep.checkpoint_saver


def test_importing_it_loads_nothing_else() -> None:
    """No driver, no SDK, no LangGraph: the standard library and the one file."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import superstep\n"
        "new = set(sys.modules) - before\n"
        "print(*sorted(name for name in new if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["superstep"]


def test_a_program_pays_for_the_rooms_that_it_enters() -> None:
    """A saver and a flow that ask no model and send nothing: no providers, prompts, workers, effects or events."""
    program = (
        "import sys\n"
        "from superstep import TransactionalSaver, current_step, guard, transactional\n"
        "print(*sorted(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = shown.stdout.split()
    assert "superstep.checkpointer.saver.saver" in loaded
    closed = ("prompts", "providers.routing", "providers.transport", "providers.policy", "checkpointer.derived")
    closed += ("checkpointer.effects", "checkpointer.embedded", "checkpointer.fleet", "checkpointer.memory")
    assert [name for name in loaded if name.startswith(tuple(f"superstep.{room}" for room in closed))] == []


def test_the_libraries_are_joined_whatever_an_author_starts_with() -> None:
    """Calls of models are recorded, and searches by text embedded, though what asks models is loaded later."""
    for start in ("current_step", "chat_model", "seed_tables", "prompt"):
        program = (
            f"from superstep import {start}\n"
            "from superstep.providers.records.ports import hooks\n"
            "from superstep.checkpointer.collections.embedder import TextEmbedder\n"
            "from superstep.providers.chat.registry import _registry\n"
            "assert TextEmbedder().is_set, 'no embedder'\n"
            "assert _registry.named, 'no source of routes'\n"
            "assert hooks().record is not None, 'no recorder'\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
