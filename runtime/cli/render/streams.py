"""Standard output and standard error of a command.

What a command writes arrives whatever the encoding of the terminal: a character that the encoding lacks is written in
ASCII. A stream that the caller has closed is none to stumble over.

Under `--json` standard output is for the answer alone. Meanwhile the process's descriptor 1 is standard error: what
nodes, imported modules, C libraries and child processes print, whenever they do, goes there.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from superstep.runtime.settings.shown import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "OutputClosed",
    "answer",
    "answer_encoding",
    "complain",
    "encodable",
    "reserve_stdout",
    "standing_streams",
    "write_off",
]

# What our own output is written with where an encoding lacks it; anything else becomes an escape such as \u4f60.
ASCII = {"→": "->", "…": "...", "·": "-", "─": "-"}
ERRORS = "superstep.ascii"
STDOUT, STDERR = 1, 2


class OutputClosed(BrokenPipeError):
    """The reader of our output has gone. A class of its own: a node may raise `BrokenPipeError` about its own pipes."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(ERRORS, _in_ascii)


def encodable(text: str, encoding: str | None) -> str:
    """Return a text as a stream of that encoding will show it, for those who measure it first."""
    return text.encode(encoding or "utf-8", ERRORS).decode(encoding or "utf-8")


class _Reserved:
    """Where the answer goes, and how to give standard output back.

    Invariant: while `descriptor` is set, descriptor 1 is a copy of standard error and `descriptor` the only way out.
    """

    def __init__(self, stdout: TextIO) -> None:
        stdout.flush()
        self.stdout = stdout
        self.encoding = stdout.encoding
        self.descriptor: int | None = None
        if _descriptor(stdout) == STDOUT:
            self.descriptor = os.dup(STDOUT)
            os.dup2(STDERR, STDOUT)
        sys.stdout = sys.stderr

    def write(self, content: str | bytes) -> None:
        """Write all of it, and keep nothing back that the interpreter would try to write at its end."""
        if self.descriptor is None:
            _write(self.stdout, content)
            return
        left = memoryview(content if isinstance(content, bytes) else content.encode(self.encoding or "utf-8", ERRORS))
        while left:
            left = left[os.write(self.descriptor, left) :]

    def give_back(self) -> None:
        sys.stdout.flush()
        sys.stdout = self.stdout
        if self.descriptor is not None:
            os.dup2(self.descriptor, STDOUT)
            os.close(self.descriptor)


_reserved: _Reserved | None = None


def reserve_stdout() -> None:
    """From now on standard output is for `answer` alone. Call it before anything of the user's is imported."""
    global _reserved
    if _reserved is None:
        _reserved = _Reserved(sys.stdout)


def answer_encoding() -> str | None:
    """Return the encoding of what `answer` writes."""
    return _reserved.encoding if _reserved else sys.stdout.encoding


def answer(content: str | bytes) -> None:
    """Write a text or the bytes of a file on standard output, reserved or not.

    Raises:
        OutputClosed: Nobody reads it any more.
    """
    try:
        if _reserved:
            _reserved.write(content)
        else:
            _write(sys.stdout, content)
    except BrokenPipeError as error:
        raise OutputClosed from error


def _write(stream: TextIO, content: str | bytes) -> None:
    if isinstance(content, str):
        stream.write(content)
    else:
        stream.buffer.write(content)
    stream.flush()


def complain(text: str) -> None:
    """Write lines on standard error, without control characters. Nobody reading them is no further failure."""
    with suppress(OSError, ValueError):
        sys.stderr.write(safe(text) + "\n")
        sys.stderr.flush()


def write_off() -> None:
    """Let go of a standard output that cannot be written, so that the interpreter's last flush does not complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def standing_streams(*, keep: bool) -> Iterator[None]:
    """Make standard output and standard error fit for any text while inside.

    Args:
        keep: Whether the process ends with the command: then nothing is given back, and what threads and exit handlers
            print after the answer does not follow it.
    """
    if keep:
        _fill_closed_descriptors()
    with ExitStack() as undo:
        for name in ("stdout", "stderr"):
            undo.callback(setattr, sys, name, getattr(sys, name))
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
            else:
                undo.callback(_set_errors, getattr(sys, name), _set_errors(getattr(sys, name), ERRORS))
        if logging.lastResort:
            undo.callback(logging.lastResort.setFormatter, logging.lastResort.formatter)
            logging.lastResort.setFormatter(_SafeFormatter())
        undo.callback(_give_back)
        yield
        if keep:
            undo.pop_all()


def _give_back() -> None:
    global _reserved
    if _reserved:
        _reserved.give_back()
        _reserved = None


class _SafeFormatter(logging.Formatter):
    """Warnings that a library logs may quote a model or a database too."""

    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record))


def _fill_closed_descriptors() -> None:
    """Open the null device where a descriptor below 3 is closed: else the next socket would be standard output."""
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest free one: this


def _set_errors(stream: Any, errors: str | None) -> str | None:
    """Set what happens to characters that a stream's encoding lacks; return what did before."""
    before: str | None = getattr(stream, "errors", None)
    if errors and isinstance(stream, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
    return before


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
