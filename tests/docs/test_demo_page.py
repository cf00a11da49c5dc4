"""docs/demo.md: its commands and its replay are run, its tables are those of the command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from click import Option

from superstep.runtime.cli.demo.commands import drift
from tests.docs.pages import blocks, commands, page

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.docs.pages import Shell

PAGE = page("demo.md")
ROW = re.compile(r"^ (\S.*?\S) {2,}\S+(?: ms)? {2,}\S+(?: ms)? *$", re.MULTILINE)


def test_it_prints_what_the_page_shows_and_a_replay_agrees(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, with_rows = commands(PAGE)
    (shown,) = blocks(PAGE, "text")
    done = shell(plain.split()[1:])
    assert done.code == 0
    assert ROW.findall(done.out) == ROW.findall(shown) != []
    command, _, file = with_rows.partition(" > ")
    done = shell([*command.split()[1:], "--thinking", "0.2"])
    assert done.code == 0
    (tmp_path / file).write_text(done.out)
    (source,) = blocks(PAGE, "python")
    exec(source, {})
    replay = re.findall(r"^(\w+) (\d+) wrong, says the replay; (\d+) says", capsys.readouterr().out, re.MULTILINE)
    ((first, *wrong), (second, *none)) = replay
    assert (first, second, none) == ("plain", "superstep", ["0", "0"])
    assert wrong[0] == wrong[1] != "0"


def test_options() -> None:
    documented = re.findall(r"^\| `(--\w+).*?` \| ?(.*?) ?\| ", PAGE, re.MULTILINE)
    shared = {"--debug", "--config", "--schema", "--db"}
    options = [each for each in drift.params if each.opts[0] not in shared]
    assert [name for name, _ in documented] == [each.opts[0] for each in options]
    for (_, written), each in zip(documented, options, strict=True):
        assert written == (f"{each.default:g}" if isinstance(each, Option) and each.show_default else "")
