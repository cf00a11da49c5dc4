"""Keeping out of records and errors what must not be in them."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import regex

from superstep.runtime.faults import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

    from superstep.providers.catalog.model import Recording

__all__ = ["Redaction", "without_secret"]

_BLACK = "█████"
_SECONDS = 0.1  # for all texts of a call: an event loop stands still meanwhile

_log = logging.getLogger(__name__)


class Redaction:
    """What a record may say of a call's content: nothing, unless that was asked for; then without what matches.

    Some patterns take time that grows with the square of a text's length, or worse. A text that is not searched in time
    is blacked out as a whole: it is never recorded unsearched, and no call waits for it. (`regex`, unlike `re`, can be
    given a time limit.)
    """

    def __init__(self, recording: Recording) -> None:
        self._on = recording.content
        self._patterns = [regex.compile(pattern) for pattern in recording.redact]

    def content(self, messages: Sequence[BaseMessage], said: str | None) -> dict[str, Any] | None:
        """Input and output for the record, or `None`."""
        if not self._on:
            return None
        until = time.monotonic() + _SECONDS
        told = [{"role": message.type, "text": self._black(message.text, until)} for message in messages]
        return {"input": told, "output": None if said is None else self._black(said, until)}

    def _black(self, text: str, until: float) -> str:
        for pattern in self._patterns:
            try:
                text = pattern.sub(_BLACK, text, timeout=max(until - time.monotonic(), 1e-6))
            except TimeoutError:
                _log.warning(
                    "A text of %d characters was not searched for %r within %g s, and is blacked out in the record. "
                    "Give `redact` a pattern with bounded repetitions, such as {1,64} instead of +",
                    len(text),
                    pattern.pattern,
                    _SECONDS,
                )
                return f"{_BLACK} (not searched in time)"
        return text


def without_secret(error: Exception, secret: str | None) -> Exception:
    """The error, or one of ours in its place if it quotes the key: a vendor's text is not ours to trust."""
    if not secret:
        return error
    # However often a text was quoted (repr, JSON), of printable ASCII only backslashes were added to it.
    forms = {_plain(form) for form in (secret, *(form(secret)[1:-1] for form in (repr, ascii, json.dumps)))}
    if any(form in _plain(text) for text in _texts(error, set()) for form in forms):
        status = getattr(error, "status_code", None)
        return ProviderUnavailable(
            f"{type(error).__name__}{f', status {status}' if status else ''}: its text quotes the key, so it is "
            f"not shown."
        )
    return error


def _plain(text: str) -> str:
    return text.replace("\\", "")


def _texts(error: BaseException | None, seen: set[int]) -> Iterator[str]:
    """All that a traceback can say of an error, and of the errors it comes from or consists of."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), repr(error), *getattr(error, "__notes__", ()))
    for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        if other is None or isinstance(other, BaseException):
            yield from _texts(other, seen)
