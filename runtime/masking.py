"""Passwords taken out of texts. On the floor, since whoever stores or shows an error needs it."""

from __future__ import annotations

import re

__all__ = ["storable", "without_password"]

# A password in a URL of PostgreSQL may hold quotes, blanks and more @, so it ends at the last @ of the line: rather too
# much is hidden than too little.
_POSTGRES = re.compile(r"(\bpostgres(?:ql)?(?:\+\w+)?://[^\s:/@]*):[^\n]*@", re.IGNORECASE)
_POSTGRES_QUERY = re.compile(r"(\bpostgres(?:ql)?(?:\+\w+)?://[^\n]*?[?&](?:ssl)?password=)[^&\n]*", re.IGNORECASE)
_LOGIN = re.compile(r"(://[^\s:/@'\"]*):[^\s'\"]*@")
_QUOTED = re.compile(r"((?:ssl)?password\s*=\s*)'(?:[^'\\]|\\.)*'", re.IGNORECASE)
_BARE = re.compile(r"((?:ssl)?password=)[^\s&'\"]+", re.IGNORECASE)


def storable(error: str) -> str:
    """What is kept of an error's text: without passwords, and without what PostgreSQL has no place for."""
    return without_password(error).encode(errors="replace").decode().replace("\0", "")


def without_password(text: str) -> str:
    """Replace the password in every connection string of a text by `***`.

    Args:
        text: Any text: a connection string, an error message, a traceback.

    Returns:
        The text with the passwords of `user:password@host` and `password=…` masked.
    """
    for pattern, masked in (
        (_POSTGRES, r"\1:***@"),
        (_POSTGRES_QUERY, r"\1***"),
        (_LOGIN, r"\1:***@"),
        (_QUOTED, r"\1'***'"),
        (_BARE, r"\1***"),
    ):
        text = pattern.sub(masked, text)
    return text
