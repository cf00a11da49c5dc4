"""A source tree whose `superstep/` has no links: git on a file system without them, and an unpacked sdist."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import PARTS, ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree as far as `make` looks at it before there is a virtual environment."""
    for name in (".ci", "superstep", *PARTS):
        (tmp_path / name).mkdir()
    for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt", "superstep/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(target: str, tree: Path) -> subprocess.CompletedProcess[str]:
    # Without what `make test`, which may be running this, hands to the makes below it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", target], cwd=tree, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("target", ["demo", "test", "lint", ".venv/.installed"])
def test_text_files_in_place_of_links_are_named_in_one_sentence(tree: Path, target: str) -> None:
    for part in PARTS:
        (tree / "superstep" / part).write_text(f"../{part}")
    done = make(target, tree)
    assert done.returncode == 2
    assert done.stdout == ""
    sentence, of_make = done.stderr.splitlines()
    assert sentence.startswith("superstep/checkpointer is no link to ../checkpointer")
    assert "git config core.symlinks true && git checkout -- superstep .editable" in sentence
    assert "from a wheel or an sdist" in sentence
    assert of_make.startswith("make")
    assert not (tree / ".venv").exists()
    assert (tree / "superstep" / "checkpointer").read_text() == "../checkpointer"


@pytest.mark.skipif(shutil.which("git") is None, reason="what git does")
def test_the_advice_helps(tree: Path) -> None:
    """In a clone that git made without links on a file system that has them."""
    for part in PARTS:
        (tree / part / "__init__.py").touch()
        (tree / "superstep" / part).symlink_to(f"../{part}")
    (tree / ".editable").mkdir()
    (tree / ".editable" / "superstep").symlink_to("../superstep")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    copy = tree / "copy"
    for command in (
        [*git, "init", "--quiet", "."],
        [*git, "add", "."],
        [*git, "commit", "--quiet", "-m", "x"],
        [*git, "clone", "--quiet", "-c", "core.symlinks=false", ".", str(copy)],
    ):
        subprocess.run(command, cwd=tree, check=True, capture_output=True)
    refused = make("links", copy)
    assert refused.returncode == 2
    advice = refused.stderr.partition("run: ")[2].partition(";")[0]
    subprocess.run(advice, shell=True, cwd=copy, check=True, capture_output=True)
    assert make("links", copy).returncode == 0
    assert [(copy / "superstep" / part).is_symlink() for part in PARTS] == [True] * len(PARTS)


def test_an_unpacked_sdist_gets_its_links(tree: Path) -> None:
    assert make("links", tree).returncode == 0
    for part in PARTS:
        assert (tree / "superstep" / part).readlink().as_posix() == f"../{part}"
    assert (tree / ".editable" / "superstep").readlink().as_posix() == "../superstep"


def test_links_that_are_there_are_left_alone(tree: Path) -> None:
    for part in PARTS:
        (tree / "superstep" / part).symlink_to(f"../{part}")
    done = make("links", tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("part", PARTS)
def test_the_editable_install_has_no_bare_names(part: str, tmp_path: Path) -> None:
    """From anywhere but the checkout itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert run(f"import superstep.{part}").returncode == 0
    bare = run(f"import {part}")
    assert f"ModuleNotFoundError: No module named '{part}'" in bare.stderr
