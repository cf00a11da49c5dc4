from pathlib import Path

import pytest

from superstep.runtime.faults import ConfigError
from superstep.runtime.settings.settings import CommandSettings, load_settings, without_password

URL = "postgresql://u:secret@h/d"


def load(tmp_path: Path, text: str = "", **given: object) -> CommandSettings:
    if text:
        (tmp_path / "runtime.toml").write_text(text)
    given.setdefault("env", {})
    return load_settings(folder=tmp_path, **given)  # type: ignore[arg-type]


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == CommandSettings()


def test_the_file_overrides_the_defaults(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '[database]\nschema = "s"\npool_max = 3\nhold_idle = "forever"\n[run]\nmax_attempts = 4\n[models.fast]\n',
    )
    assert (found.database.schema, found.database.pool_max, found.database.hold_idle) == ("s", 3, "forever")
    assert found.run.max_attempts == 4
    assert found.file == tmp_path / "runtime.toml"


def test_variables_override_the_file_and_flags_override_variables(tmp_path: Path) -> None:
    text, env = '[database]\nschema = "file"\nhold_idle = 1\n', {"RUNTIME_SCHEMA": "env", "RUNTIME_HOLD_IDLE": "0.5"}
    assert load(tmp_path, text, env=env).database.schema == "env"
    assert load(tmp_path, text, env=env).database.hold_idle == 0.5
    assert load(tmp_path, text, env=env, flags={"schema": "flag"}).database.schema == "flag"


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        ({"url": "postgresql://flag"}, {"RUNTIME_DATABASE_URL": "postgresql://own"}, "postgresql://flag"),
        ({}, {"RUNTIME_DATABASE_URL": "postgresql://own", "DATABASE_URL": "mysql://x"}, "postgresql://own"),
        ({}, {"DATABASE_URL": "postgres://platform"}, "postgres://platform"),
        ({}, {"DATABASE_URL": ""}, "postgresql://file"),
    ],
)
def test_the_address_has_one_more_source(
    tmp_path: Path, flags: dict[str, str], env: dict[str, str], expected: str
) -> None:
    found = load(tmp_path, '[database]\nurl = "postgresql://file"\n', flags=flags, env=env)
    assert found.database.url == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[database\n", ["runtime.toml", "line 1"]),
        ("\n[databas]\n", ["line 2", "Did you mean database?"]),
        ("[database]\npoolmax = 3\n", ["line 2", "'poolmax'", "[database]", "Did you mean pool_max?"]),
        ("[run]\n\nmax_attempts = true\n", ["line 3", "max_attempts", "whole number"]),
        ("[run]\nmax_attempts = 0\n", ["line 2", "1 or more"]),
        ('[run]\non_stale_answer = "asks"\n', ['"ask", "accept"']),
        ("[database]\nhold_idle = -1\n", ["hold_idle", '"forever"']),
        ("[database]\nhold_idle = nan\n", ["hold_idle"]),
        ("pool_min = 3\n", ["line 1", "belongs under [database]"]),
        ("database = 3\n", ["line 1", "[database]"]),
        ("[database]\npool_min = 5\npool_max = 2\n", ["pool_min (5)", "pool_max (2)"]),
        ('[database]\nurl = "mysql://u:secret@h/d"\n', ["line 2", "postgresql://"]),
    ],
)
def test_an_error_names_the_place_and_never_the_value(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for word in words:
        assert word in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RUNTIME_POOL_MAX must be a whole number"):
        load(tmp_path, env={"RUNTIME_POOL_MAX": "many"})
    with pytest.raises(ConfigError, match="Did you mean RUNTIME_POOL_MAX"):
        load(tmp_path, env={"RUNTIME_POOLMAX": "3"})
    assert load(tmp_path, env={"RUNTIME_OF_ANOTHER_PROGRAM": "3"}) == CommandSettings()


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no settings file"):
        load(tmp_path, file="other.toml")
    with pytest.raises(ConfigError, match="no settings file"):
        load(tmp_path, env={"RUNTIME_CONFIG": "other.toml"})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (URL, "postgresql://u:***@h/d"),
        (
            "could not reach postgresql://u:p@ss/w:rd@h:5432/d, sorry",
            "could not reach postgresql://u:***@h:5432/d, sorry",
        ),
        ("postgresql://h/d?password=secret&x=1", "postgresql://h/d?password=***&x=1"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("postgresql:///d?host=/tmp/a", "postgresql:///d?host=/tmp/a"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert without_password(text) == masked
