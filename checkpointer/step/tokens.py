"""The words of a statement, split as PostgreSQL's own scanner splits them. Pure.

What the scanner does and a simpler reading misses: comments nest; a `--` comment ends at a carriage return too; a
literal may be `'…'`, `E'…'` with backslashes, or dollar-quoted; an identifier may be quoted, hold `$` and letters
beyond ASCII; a word is folded to lower case only in ASCII. See "Lexical Structure" in the manual,
https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and `src/backend/parser/scan.l`.

What cannot be split (a literal that does not end, a stray character) becomes a token of its own, `Kind.STRANGE`: the
server will say what is wrong with it, and a caller must not take it for anything harmless.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Kind", "Token", "first_word", "tokens", "with_parameters_from"]

_SPACE = r"[ \t\n\r\f\v]"
_IDENTIFIER = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"
_TAG = r"(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?"
_SKIP = re.compile(rf"(?:{_SPACE}+|--[^\r\n]*)+")
_COMMENT_MARK = re.compile(r"/\*|\*/")
_TOKEN = re.compile(
    r"(?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')"
    r"|(?P<literal>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')"
    r'|(?P<quoted>(?:[uU]&)?"(?:[^"]|"")+")'
    rf"|(?P<word>{_IDENTIFIER})"
    rf"|(?P<dollar>\$(?P<tag>{_TAG})\$.*?\$(?P=tag)\$)"
    r"|(?P<parameter>\$[0-9]+)"
    r"|(?P<number>(?:[0-9]|\.[0-9])[0-9_.]*)"
    r"|(?P<mark>[(),;.\[\]:])"
    r"|(?P<operator>(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?])+)",
    re.DOTALL,
)


class Kind(Enum):
    """What a token is."""

    WORD = "word"  # a key word or an identifier, in lower case
    QUOTED = "quoted"  # an identifier in double quotes, without them
    LITERAL = "literal"  # as written
    OTHER = "other"  # a parameter, number, operator or punctuation mark
    STRANGE = "strange"  # nothing the scanner knows


class Token(NamedTuple):
    """One token, see `Kind` for what its text is."""

    kind: Kind
    text: str


_KINDS = {
    "escaped": Kind.LITERAL,
    "literal": Kind.LITERAL,
    "dollar": Kind.LITERAL,
    "parameter": Kind.OTHER,
    "number": Kind.OTHER,
    "mark": Kind.OTHER,
    "operator": Kind.OTHER,
}


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a statement, comments and white space left out, one after the other as they are asked for."""
    for match in _scan(sql):
        yield match if isinstance(match, Token) else _token(match)


def with_parameters_from(sql: str, start: int) -> str | None:
    """The statement as part of a larger one: `$1` is `$(start + 1)`, and so on, and no semicolon is left at its end.

    Returns:
        `None` if it cannot be part of one, being none that the scanner knows, or more than one.
    """
    parts, at = list[str](), 0
    ended = False
    for match in _scan(sql):
        if isinstance(match, Token) or _token(match).kind is Kind.STRANGE:
            return None
        semicolon = match.group() == ";"
        if ended and not semicolon:
            return None
        ended = ended or semicolon
        if semicolon or match.lastgroup == "parameter":
            new = "" if semicolon else f"${int(match.group()[1:]) + start}"
            parts += [sql[at : match.start()], new]
            at = match.end()
    return "".join([*parts, sql[at:]])


def _scan(sql: str) -> Iterator[re.Match[str] | Token]:
    """The places of its tokens; a strange one as such, which is the last."""
    at = _skip(sql, 0)
    while at < len(sql):
        match = _TOKEN.match(sql, at) if at >= 0 else None
        if match is None:
            yield Token(Kind.STRANGE, sql[max(at, 0) :])
            return
        yield match
        at = _skip(sql, match.end())


@lru_cache(maxsize=1024)
def first_word(sql: str) -> str | None:
    """The word that decides what kind of statement this is, in lower case; `None` if there is none.

    Parentheses and empty statements in front of it are passed over, as the server passes over them.
    """
    for token in tokens(sql):
        if token.kind is Kind.WORD:
            return token.text
        if token.text not in ("(", ";"):
            return None
    return None


def _token(match: re.Match[str]) -> Token:
    text = match.group()
    kind = match.lastgroup or ""
    if match["word"]:
        return Token(Kind.WORD, _fold(text))
    if kind == "literal" and "\\" in text:  # where it ends depends on standard_conforming_strings
        return Token(Kind.STRANGE, text)
    if match["quoted"]:
        if text[0] != '"':  # U&"…": what it names depends on escapes in it
            return Token(Kind.STRANGE, text)
        return Token(Kind.QUOTED, text[1:-1].replace('""', '"'))
    return Token(Kind.LITERAL if match["dollar"] else _KINDS[kind], text)


def _fold(word: str) -> str:
    return word.lower() if word.isascii() else "".join(c.lower() if c.isascii() else c for c in word)


def _skip(sql: str, at: int) -> int:
    """The place after white space and comments; -1 if a comment does not end."""
    while True:
        if blank := _SKIP.match(sql, at):
            at = blank.end()
        if not sql.startswith("/*", at):
            return at
        depth = 0
        for mark in _COMMENT_MARK.finditer(sql, at):
            depth += 1 if mark.group() == "/*" else -1
            if depth == 0:
                at = mark.end()
                break
        else:
            return -1
