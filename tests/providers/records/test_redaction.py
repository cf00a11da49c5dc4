"""Keys are taken out of errors, in whatever form they are quoted; what is recorded is searched in bounded time."""

from __future__ import annotations

import json
import time
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import HumanMessage

from superstep.providers.catalog.model import Recording
from superstep.providers.records.redaction import Redaction, without_secret
from tests.support.routes import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence


def caused(by: Exception) -> Exception:
    error = ValueError("harmless")
    error.__cause__ = by
    error.__context__ = ValueError("harmless, too")
    return error


def under(hidden: Exception) -> Exception:
    error = caused(ValueError("harmless"))
    error.__context__ = hidden
    return error


def noted(note: str) -> Exception:
    error = ValueError("harmless")
    error.add_note(note)
    return error


@pytest.mark.parametrize("key", [KEY, "sk-\"quoted'\\0123456789", KEY + "\u200b", KEY + "\u00e9"])
def test_an_error_that_quotes_a_key_in_whatever_form_is_replaced(key: str) -> None:
    quoting: Sequence[Exception] = [
        ValueError(f"the key {key} is wrong"),
        ValueError(key.encode()) if key.isascii() else ValueError(ascii(key)),
        ValueError(json.dumps({"key": key})),
        ValueError(str({"body": json.dumps({"key": key})})),
        caused(ValueError(key)),
        under(ValueError(key)),
        noted(f"with {key}"),
        ExceptionGroup("several", [ValueError("harmless"), ValueError([key])]),
    ]
    for error in quoting:
        replaced = without_secret(error, key)
        assert replaced is not error
        text = "".join(traceback.format_exception(replaced))
        assert "quotes the key" in text
        assert key[:12] not in text


def test_other_errors_stay_as_they_are() -> None:
    error = ValueError("harmless")
    error.__context__ = other = ValueError("harmless, too")
    other.__context__ = error  # a circle, which Python itself takes care not to make
    assert without_secret(error, KEY) is error
    assert without_secret(error, None) is error


def redaction(*patterns: str) -> Redaction:
    return Redaction(Recording(content=True, redact=patterns))


def recorded(redact: Redaction, text: str) -> str:
    content = redact.content([HumanMessage(text)], None)
    assert content is not None
    return str(content["input"][0]["text"])


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"[\w.]+@[\w.]+", "a" * 100_000 + " to me@example.org"),
        (r"(x|xx)+y", "x" * 5_000 + " y"),
        (r"(.*,){12}P", "a," * 2_000),
    ],
)
def test_a_text_that_takes_too_long_to_search_is_black_and_nobody_waits(
    pattern: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    redact = redaction(pattern, "secret")
    began = time.monotonic()
    shown = recorded(redact, f"secret {text}")
    assert time.monotonic() - began < 2  # without a limit: minutes at least
    assert shown == "█████ (not searched in time)"
    assert "was not searched" in caplog.text
    assert recorded(redact, "a secret of the next call") == "a █████ of the next call"


def test_the_limit_is_for_all_texts_of_a_call() -> None:
    redact, text = redaction(r"(x|xx)+y"), "x" * 5_000 + " y"
    began = time.monotonic()
    redact.content([HumanMessage(text)] * 200, text)
    assert time.monotonic() - began < 2


def test_the_pattern_of_the_documentation_searches_long_texts() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    _, pattern = tomllib.loads("redact = " + page.partition("redact = ")[2].partition("\n")[0])["redact"]
    long = "a" * 40_000
    assert recorded(redaction(r"\b\d{16}\b", pattern), long) == long
    assert recorded(redaction(pattern), f"{long} to me@example.org") == f"{long} to █████"
