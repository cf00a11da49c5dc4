"""Texts made fit to be shown: without control characters, and as words that a shell reads as they are meant."""

from __future__ import annotations

import re
import shlex

__all__ = ["safe", "safe_json", "shell_word"]

# C0 without tab and line feed, DEL, C1; separators of lines; marks that change the direction of the text after them.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    # Above ASCII not `\\x9b`: for a shell that is a byte, not this character.
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"


def safe(text: str) -> str:
    r"""Make control characters visible: a value from a model or a database must not drive the terminal.

    Args:
        text: Any text.

    Returns:
        The text with `\x1b` and the like written out. Tabs and line feeds stay; a Windows line end becomes one.
    """
    return CONTROL.sub(_escape, text.replace("\r\n", "\n"))


def safe_json(text: str) -> str:
    r"""Make control characters of a JSON text visible, as `\u009b`, without changing what it means."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shell_word(text: str) -> str:
    """Quote a word for a POSIX shell. One with control characters is written so that it can be seen and typed."""
    if not CONTROL.search(text) and not re.search(r"[\t\n]", text):
        return shlex.quote(text)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return f"$'{CONTROL.sub(_escape, quoted)}'"
