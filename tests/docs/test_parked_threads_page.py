"""docs/parked-threads.md: threads of its first module are lifted by its second one, with the commands of the page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("parked-threads.md")


def test_the_modules_and_the_commands(shell: Shell, tmp_path: Path) -> None:
    _, second, first = blocks(PAGE, "python")
    lines = commands(PAGE)
    (tmp_path / "pay.py").write_text(first)
    shown = perform(lines[:4], shell, dict.fromkeys(lines[:2], 10))
    assert shown[lines[2]].count("interrupted") == 2
    assert "No such thread." in shown[lines[3]]
    (tmp_path / "pay.py").write_text(second)
    tried, lifted, answered, left = lines[4:]
    codes = {lifted: 10}
    for name in [name for name in sys.modules if name.startswith("_graph_file_") or name == "pay"]:
        del sys.modules[name]  # as another process would find it
    shown = perform(lines[4:], shell, codes)
    assert shown[tried].count("chosen") == 2
    assert shown[lifted].count("interrupted") >= 2
    assert shown[answered].count("completed") == 2
    assert "No such thread." in shown[left]
    state = shell(["show", "two", "--json"]).json
    assert state["values"] == {"cents": 900, "approved": True}
