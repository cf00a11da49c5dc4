"""Edits, three-way merges, diffs and digests. Pure: no database, no model, no clock.

`Files` are contents by path. Nothing here changes the files that it is given.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from superstep import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from superstep.graphs.workspace.state import Edit

    Files = Mapping[str, str]

__all__ = ["EditConflict", "EditInvalid", "applied", "diff", "digest", "merged", "rebased"]

_PATH = re.compile(r"[a-z0-9_]+\.py")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class EditInvalid(RuntimeFault):
    """An edit does not fit the files that it was made on."""


class EditConflict(RuntimeFault):
    """Two changes meet in the same lines. Which of them counts, or how both do, has to be decided by an agent.

    Attributes:
        path: the file.
        line: number of the first line in question, as both sides had it before.
    """

    def __init__(self, path: str, line: int, theirs: str, ours: str) -> None:
        super().__init__(f"{path}, line {line}: merged meanwhile was\n{theirs}\nand this edit would make it\n{ours}")
        self.path = path
        self.line = line


def applied(files: Files, edits: Sequence[Edit]) -> dict[str, str]:
    """The files after edits.

    Raises:
        EditInvalid: What is to be replaced does not stand there exactly once, or the path is no name of a file.
    """
    result = dict(files)
    for edit in edits:
        path, old = edit["path"], edit["old"]
        if not _PATH.fullmatch(path):
            raise EditInvalid(f"{path!r} is not a name for a file here; use small letters, digits and _, and .py.")
        if bool(old) != (path in result):
            raise EditInvalid(
                f"{path}: only a new file has nothing to replace, and this one is {'not ' * bool(old)}there."
            )
        if old and (found := result[path].count(old)) != 1:
            raise EditInvalid(f"{path}: the text to replace is there {found} times: {old!r}")
        result[path] = result[path].replace(old, edit["new"]) if old else edit["new"]
    return result


def rebased(base: Files, edits: Sequence[Edit], now: Files) -> dict[str, str]:
    """The files of now, with edits that were made on the files of `base`.

    Raises:
        EditInvalid: The edits do not fit `base`.
        EditConflict: They meet what has changed since, in the same lines or in neighbouring ones.
    """
    mine = applied(base, edits)
    touched = sorted(path for path in mine if mine[path] != base.get(path))
    return {**now, **{path: merged(path, base.get(path, ""), now.get(path, ""), mine[path]) for path in touched}}


def merged(path: str, base: str, theirs: str, ours: str) -> str:
    """Both changes of a text, line by line. The same change on both sides is one.

    Raises:
        EditConflict: They overlap, or touch: then which comes first would be a guess.
    """
    lines = _LINE.findall(base)
    of_them = set(_replaced(lines, theirs))
    result: list[str] = []
    at, last = 0, _Replaced(-1, -1, ())
    for each in sorted({*of_them, *_replaced(lines, ours)}):
        # Those of one side never touch, since `difflib` has equal lines between them: one is theirs, the other ours.
        if each.start <= last.end:
            their, our = (last, each) if last in of_them else (each, last)
            raise EditConflict(path, last.start + 1, theirs="".join(their.lines), ours="".join(our.lines))
        result += [*lines[at : each.start], *each.lines]
        at, last = each.end, each
    return "".join([*result, *lines[at:]])


class _Replaced(NamedTuple):
    """Lines `start` to `end` of a text, replaced by others."""

    start: int
    end: int
    lines: tuple[str, ...]


def _replaced(lines: Sequence[str], after: str) -> list[_Replaced]:
    new = _LINE.findall(after)
    matcher = difflib.SequenceMatcher(None, lines, new, autojunk=False)
    return [
        _Replaced(start, end, tuple(new[since:until]))
        for what, start, end, since, until in matcher.get_opcodes()
        if what != "equal"
    ]


def diff(before: Files, after: Files) -> str:
    """What changed, as a reviewer sees it. Without line numbers: edits elsewhere in a file leave it as it is."""
    parts = []
    for path in sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
        old, new = (_LINE.findall(files.get(path, "")) for files in (before, after))
        for line in difflib.unified_diff(old, new, path, path):
            shown = "@@\n" if line.startswith("@@") else line
            parts.append(shown if shown.endswith("\n") else f"{shown}\n\\ no newline at the end\n")
    return "".join(parts)


def digest(what: str | Files) -> str:
    """Names a diff, or files with their contents: equal exactly if those are."""
    text = what if isinstance(what, str) else json.dumps(what, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
