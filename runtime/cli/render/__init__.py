"""What commands print: for people, as JSON, and on which stream.

`streams` imports nothing heavy, so that it stands before the commands do; `console` brings rich on first use.
"""

from __future__ import annotations

from superstep.runtime.cli.render.console import (
    STATUS_STYLES,
    console,
    count,
    json_text,
    moment,
    print_json,
    print_questions,
    print_values,
    short_ids,
    step_names,
    table,
)
from superstep.runtime.cli.render.streams import (
    OutputClosed,
    answer,
    complain,
    reserve_stdout,
    standing_streams,
    write_off,
)

__all__ = [
    "OutputClosed",
    "STATUS_STYLES",
    "answer",
    "complain",
    "console",
    "count",
    "json_text",
    "moment",
    "print_json",
    "print_questions",
    "print_values",
    "reserve_stdout",
    "short_ids",
    "standing_streams",
    "step_names",
    "table",
    "write_off",
]
