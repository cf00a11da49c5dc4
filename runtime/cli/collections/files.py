"""Files as documents: which of a folder are texts, and their pieces.

A piece's id is made of its file, its text and its metadata: what has not changed is there already, whatever moved
around it, and is not embedded again.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import Document, content_id
from superstep.runtime.faults import DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["DUMPS", "Chunking", "documents_of", "find_files"]

DUMPS = (".jsonl", ".ndjson", ".parquet")
_SPACE = re.compile(r"\s+")
_LARGEST = 50_000_000  # bytes of a text
_LANGUAGES = {".md": "markdown", ".markdown": "markdown", ".tex": "latex"} | {
    ".py": "python",
    ".js": "js",
    ".ts": "ts",
    ".java": "java",
    ".go": "go",
    ".rs": "rust",
    ".rb": "ruby",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".cs": "csharp",
    ".php": "php",
    ".kt": "kotlin",
    ".rst": "rst",
}


@dataclass(frozen=True, slots=True)
class Chunking:
    """How texts are cut.

    Attributes:
        size: characters of a piece, at most.
        overlap: characters at the end of a piece that the next one begins with, about.
        metadata: what each piece gets beside its `source`.
    """

    size: int = 1000
    overlap: int = 150
    metadata: Mapping[str, Any] = field(default_factory=dict)


def find_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files at these paths, and of folders those in them, in the order of their names; and what is not there.

    Hidden files and folders are passed over, unless they are named.
    """
    found: dict[Path, None] = {}
    missing = []
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_below(path)))
        elif path.is_file():
            found[path] = None
        else:
            missing.append(path.as_posix())
    return list(found), missing


def _below(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))


def documents_of(path: Path, chunking: Chunking) -> list[Document]:
    """The pieces of a text.

    Raises:
        DocumentInvalid: it is no text, or cannot be read.
    """
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    text, suffix = _text(path), path.suffix.lower()
    if suffix in (".html", ".htm"):
        text, suffix = _visible(text), ""
    sizes: dict[str, Any] = {"chunk_size": chunking.size, "chunk_overlap": chunking.overlap}
    if suffix in _LANGUAGES:
        splitter = RecursiveCharacterTextSplitter.from_language(Language(_LANGUAGES[suffix]), **sizes)
    else:
        splitter = RecursiveCharacterTextSplitter(**sizes)
    source = path.as_posix()
    pieces = [piece for piece in splitter.split_text(text) if piece.strip()]
    seen: Counter[str] = Counter()
    documents = []
    for position, piece in enumerate(pieces):
        metadata = {**chunking.metadata, "source": source}
        bare = Document(piece, metadata, id="", source=source, position=position)
        documents.append(replace(bare, id=content_id(bare, seen[piece])))
        seen[piece] += 1
    return documents


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise DocumentInvalid(f"{path} has more than {_LARGEST:,} bytes: no text to be read by pieces.")
        data = path.read_bytes()
    except OSError as e:
        raise DocumentInvalid(f"{path} cannot be read: {e.strerror}.") from e
    if b"\0" in data:
        raise DocumentInvalid(f"{path} is no text.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DocumentInvalid(f"{path} is no text in UTF-8.") from e


def _visible(html: str) -> str:
    parser = _Visible(convert_charrefs=True)
    parser.feed(html)
    parser.close()
    return "".join(parser.parts)


class _Visible(HTMLParser):
    """The text of a page, with an empty line around what a browser puts on lines of its own."""

    _HIDDEN = frozenset({"script", "style", "template", "head"})
    _INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "q", "s", "small", "span", "strong", "sub", "sup", "u"})

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in self._HIDDEN))
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(_SPACE.sub(" ", data))

    def _break(self, tag: str) -> None:
        if tag not in self._INLINE:
            self.parts.append("\n\n")
