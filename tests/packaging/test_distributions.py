"""What is in the wheel and in the sdist."""

from __future__ import annotations

import zipfile
from collections import Counter
from typing import TYPE_CHECKING

from tests.packaging.conftest import PARTS, ROOT, build, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packaging.conftest import Distributions


def in_wheel(distributions: Distributions) -> list[str]:
    return zipfile.ZipFile(distributions.wheel).namelist()


def files_of(folder: Path) -> set[str]:
    """Files below a folder, without what Python makes of them."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_one_top_level_name(distributions: Distributions) -> None:
    tops = {name.partition("/")[0] for name in in_wheel(distributions)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"superstep"}
    assert len(tops) == 2


def test_the_wheel_has_every_file_of_the_five_folders_once(distributions: Distributions) -> None:
    own = {f"superstep/{path.name}" for path in (ROOT / "superstep").iterdir() if path.is_file()}
    parts = {f"superstep/{part}/{name}" for part in PARTS for name in files_of(ROOT / part)}
    found = Counter(name for name in in_wheel(distributions) if name.startswith("superstep/"))
    assert set(found) == own | parts
    assert set(found.values()) == {1}


def test_the_wheel_has_its_data_files_and_its_command(distributions: Distributions) -> None:
    names = in_wheel(distributions)
    assert "superstep/py.typed" in names
    for part, ending in [("checkpointer", ".sql"), ("prompts", ".sql"), ("prompts", ".md"), ("graphs", ".toml")]:
        assert any(name.startswith(f"superstep/{part}/") and name.endswith(ending) for name in names), (part, ending)
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(distributions.wheel).read(entry_points).decode()
    assert text == "[console_scripts]\nruntime = superstep.runtime.cli:main\n"


def test_the_sdist_makes_the_same_wheel(distributions: Distributions, tmp_path: Path) -> None:
    source = unpack(distributions.sdist, tmp_path / "source")
    (wheel,) = build(source, tmp_path / "dist", "wheel")
    assert wheel.read_bytes() == distributions.wheel.read_bytes()


def test_a_checkout_without_links_makes_the_same_wheel(distributions: Distributions, tmp_path: Path) -> None:
    """Git then writes a small text file in place of each link, and so do programs that unpack zip files."""
    source = unpack(distributions.sdist, tmp_path / "source")
    for part in PARTS:
        (source / "superstep" / part).write_text(f"../{part}")
    (wheel,) = build(source, tmp_path / "dist", "wheel")
    assert wheel.read_bytes() == distributions.wheel.read_bytes()


def test_an_unpacked_sdist_has_no_file_twice(distributions: Distributions, tmp_path: Path) -> None:
    names = files_of(unpack(distributions.sdist, tmp_path))
    own = {f"superstep/{each}" for each in ("__init__.py", "agent_server.py", "effects.py", "py.typed", "reducers.py")}
    assert {name for name in names if name.startswith("superstep/")} == own
    assert {f"{part}/{name}" for part in PARTS for name in files_of(ROOT / part)} <= names
