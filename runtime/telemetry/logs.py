"""Structured logs: one JSON object a line, with the trace that a line belongs to."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["JsonLines", "log_to"]

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Formats records of any logger: `time`, `level`, `logger`, `message`, and what the record says beside these.

    Of an exception the class and the text are told, without the traceback. Where a span is current, or the record names
    one, its ids are `trace_id` and `span_id`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_current_span(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _PLAIN and value is not None}
        if record.exc_info and (error := record.exc_info[1]) is not None:
            said["exception"] = f"{type(error).__qualname__}: {error}"
        return json.dumps(said, ensure_ascii=False, default=str)


def log_to(stream: TextIO, *, as_json: bool, level: str) -> None:
    """Have the process log to a stream: the project from a level on, everything else from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("superstep").setLevel(level.upper())


def _current_span() -> dict[str, str]:
    """The ids of the current span, if OpenTelemetry is in use."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}
