"""Keys are taken out of errors, in whatever form they are quoted."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

import pytest

from superstep.providers.records.redaction import without_secret
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
