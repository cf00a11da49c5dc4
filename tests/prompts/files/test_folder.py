"""A folder of prompt files: which are prompts, what they include, what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.prompts import Prompt, read_prompts
from superstep.runtime.faults import PromptInvalid, PromptNotFound
from tests.prompts.samples import user
from tests.support.prompts import HELLO, said

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def folder(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    folder(
        tmp_path,
        {
            "hello.toml": HELLO,
            "credit/plan.v2.md": "---\n---\nPlan",
            "credit/named.toml": 'name = "other/name"\n' + HELLO,
            "README.md": "# {{ Not }} {% a prompt",
            "shared/tone.txt": "{{ nothing }}",
        },
    )
    assert [each.name for each in read_prompts([tmp_path])] == ["credit/plan.v2", "hello", "other/name"]
    assert [each.name for each in read_prompts([tmp_path / "credit", tmp_path / "hello.toml"])] == [
        "hello",
        "other/name",
        "plan.v2",
    ]


def test_a_single_file_of_the_folder_prompts_has_its_path_as_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, {"prompts/credit/plan.toml": HELLO})
    monkeypatch.chdir(tmp_path)
    [made] = read_prompts([tmp_path / "prompts" / "credit" / "plan.toml", tmp_path / "prompts"])
    assert made.name == "credit/plan"


def test_includes_are_bundled_with_all_that_they_include(tmp_path: Path) -> None:
    files = {
        "p.toml": """
            [variables]
            who = "str"
            names = "list[str]"
            [partials]
            sign = "-- {{ who }}"
            unused = "{% include 'shared/unused.md' %}"
            [[messages]]
            role = "user"
            content = "{% include 'shared/tone.md' %} {% for name in names %}{% include 'name.txt' %}{% endfor %}"
        """,
        "shared/tone.md": "---\nnot: a prompt's messages\n---\nBe kind.\n{% include 'sign' %}\n",
        "name.txt": "{{ name }}{{ loop.index }};",
    }
    (tmp_path / "prompts").mkdir()
    root = folder(tmp_path / "prompts", files)
    made = read_prompts([root / "p.toml"])[0]
    assert set(made.content.includes) == {"shared/tone.md", "name.txt", "sign"}
    (root / "shared" / "tone.md").write_text("changed")
    prompt = Prompt("p", 1, made.content)
    assert said(prompt, who="Ada", names=["a", "b"]) == [("human", "Be kind.\n-- Ada a1;b2;")]
    assert read_prompts([root / "p.toml"])[0].content.digest != made.content.digest


def test_nothing_outside_of_the_folder_is_included(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    root = folder(tmp_path / "prompts", {"x.toml": "", "inner/y.txt": "y"})
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "inner", "inner/../../secret.txt"):
        (root / "x.toml").write_text(f"[[messages]]\nrole = 'user'\ncontent = '''{{% include \"{name}\" %}}'''")
        with pytest.raises(PromptInvalid, match=r"x\.toml, messages\[1\], line 1: includes '.*', which is neither"):
            read_prompts([root])


def test_the_place_of_a_mistake_in_an_included_file_is_in_that_file(tmp_path: Path) -> None:
    folder(tmp_path, {"p.toml": user("x\n{% include 'a.md' %}"), "a.md": "---\nx: 1\n---\n\nfine\n{% bad %}\n"})
    with pytest.raises(PromptInvalid, match=r"a\.md, line 6: .*'bad'"):
        read_prompts([tmp_path])


def test_all_wrong_files_are_told_at_once(tmp_path: Path) -> None:
    folder(tmp_path, {"a.toml": "x = ", "b.toml": "", "c.toml": HELLO, "c.md": "---\n---\nx"})
    (tmp_path / "d.md").write_bytes(b"\xff")
    with pytest.raises(PromptInvalid) as caught:
        read_prompts([tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "c.toml", tmp_path / "c.md"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "a.toml" in lines[0]
    assert "b.toml" in lines[1]
    assert "c.toml has the name 'c' already" in lines[2]
    with pytest.raises(PromptInvalid, match=r"d\.md: cannot be read: UnicodeDecodeError"):
        read_prompts([tmp_path])


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(PromptNotFound, match="There is no file or folder"):
        read_prompts([tmp_path / "nope"])
    with pytest.raises(PromptNotFound, match="There is no prompt in"):
        read_prompts([tmp_path])
    folder(tmp_path, {"a.md": "no front matter", "a.txt": "x"})
    for name in ("a.md", "a.txt"):
        with pytest.raises(PromptInvalid, match=r"a prompt is a \.toml file, or a \.md file whose first line"):
            read_prompts([tmp_path / name])
