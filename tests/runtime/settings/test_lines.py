"""Errors about settings name the line, however the file is written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from superstep.runtime.settings.lines import dotted, lines_of
from superstep.runtime.settings.settings import CommandSettings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

# Every number in here is the number of the line that it is on, or, inside a value of several lines, begins on.
NUMBERED = '''# a comment
one = 2
text = """
[not.a.table]
one = 99
"""
[models.fast]  # a comment
strategy = 8
patience = 9
hedge = { after = 10, more = { inner = 10 } }
fallbacks = [
  11,  # [x]
  { y = 11 },
]
"quoted key" = 15
dotted.key.here = 16

[[models.fast.deployments]]
rpm = 19
[models.fast.deployments.price]
input = 21
[[models.fast.deployments.things]]
a = 23
[[models.fast.deployments.things]]
a = 25

[[models.fast.deployments]]
rpm = 28
price.input = 29
[[models.fast.deployments.things]]
a = 31

[models."a.b"]
patience = 34
[models.fast.budget]
usd = 36
[[many]]
[[many]]
x = 39
'''


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], int]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path: value} if isinstance(value, int) else {}
    return found | {key: line for inner, below in pairs for key, line in leaves(below, (*path, inner)).items()}


def test_every_value_is_on_its_line() -> None:
    found, expected = lines_of(NUMBERED), leaves(tomllib.loads(NUMBERED))
    assert len(expected) == 19
    assert {path: found.get(path) for path in expected} == expected


def test_tables_and_elements_are_on_the_line_of_their_header() -> None:
    found = lines_of(NUMBERED)
    assert {path: found[path] for path in (("models", "fast"), ("models", "fast", "deployments"))} == {
        ("models", "fast"): 7,
        ("models", "fast", "deployments"): 18,
    }
    assert found["models", "fast", "deployments", 0] == 18
    assert found["models", "fast", "deployments", 1] == 27
    assert found["models", "fast", "deployments", 0, "things", 1] == 24
    assert found["models", "fast", "deployments", 1, "things", 0] == 30
    assert (found["many", 0], found["many", 1]) == (37, 38)
    assert found["text",] == 3


def test_paths_are_written_as_in_toml() -> None:
    assert dotted(("models", "fast", "deployments", 0, "rpm")) == "models.fast.deployments[0].rpm"
    assert dotted(("models", "a b", "\x1b[31m")) == 'models."a b"."\\u001b[31m"'
    assert dotted(()) == ""


def load(tmp_path: Path, text: str) -> CommandSettings:
    (tmp_path / "runtime.toml").write_text(text)
    return load_settings(folder=tmp_path, env={})


def test_a_place_is_file_line_and_key(tmp_path: Path) -> None:
    text = NUMBERED[NUMBERED.index("[models.fast]") : NUMBERED.index("[[many]]")]
    place = load(tmp_path, "\n" * 6 + text).place
    file = tmp_path / "runtime.toml"
    assert place(("models", "fast", "deployments", 1, "rpm")) == f"{file}, line 28: models.fast.deployments[1].rpm"
    # What is not there is on the line of the table that lacks it.
    assert place(("models", "fast", "deployments", 1, "model")) == f"{file}, line 27: models.fast.deployments[1].model"
    assert place(("budgets", "run")) == f"{file}: budgets.run"


def test_without_a_file_a_place_is_the_key(tmp_path: Path) -> None:
    assert load_settings(folder=tmp_path, env={}).place(("models", "fast")) == "models.fast"


@pytest.mark.parametrize("section", ["models", "budgets", "recording", "embeddings"])
def test_sections_about_models_are_passed_on_as_they_are(tmp_path: Path, section: str) -> None:
    secret = "sk-0123456789abcdef"
    for text, value in ((f'[{section}]\nx = "{secret}"\n', {"x": secret}), (f"{section} = 3\n", 3)):
        found = load(tmp_path, text)
        assert getattr(found, section) == value
        assert secret not in repr(found)


def test_a_misspelt_section_about_models_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"line 1: unknown section 'budget'\. Did you mean budgets\?"):
        load(tmp_path, "[budget]\nrun = { usd = 1 }\n")
