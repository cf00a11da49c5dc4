"""Dumps of other stores of vectors: JSON Lines and Parquet, read some hundred documents at a time.

A row has `content` (or `text`, `page_content`, `document`), and may have `id`, `metadata` (an object, or the text of
one), `embedding` (or `vector`, `values`) and `source`. What a row has beside these goes into its metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import Document, content_id
from superstep.runtime.faults import ConfigError, DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["read_dump"]

_AT_ONCE = 500
_CONTENT = ("content", "text", "page_content", "document")
_EMBEDDING = ("embedding", "vector", "values")


def read_dump(path: Path, metadata: Mapping[str, Any]) -> Iterator[list[Document]]:
    """The documents of a dump, by some hundred.

    Args:
        path: the file.
        metadata: what each gets beside its own.

    Raises:
        DocumentInvalid: a row is none, by its number; or the file cannot be read. Those before it were returned.
        ConfigError: it is a Parquet file, and pyarrow is not installed.
    """
    rows = _parquet(path) if path.suffix.lower() == ".parquet" else _json_lines(path)
    batch = []
    for number, row in rows:
        batch.append(_document(f"{path}, row {number}", row, metadata))
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as e:
                    raise DocumentInvalid(f"{path}, row {number} is no JSON.") from e
                yield number, row
    except (OSError, UnicodeDecodeError) as e:
        raise DocumentInvalid(f"{path} cannot be read as text in UTF-8 ({type(e).__name__}).") from e


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise ConfigError(
            f"{path} is a Parquet file, which pyarrow reads. Install it: pip install 'superstep-runtime[parquet]'"
        ) from e
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, pyarrow.ArrowException) as e:
        raise DocumentInvalid(f"{path} cannot be read as Parquet ({type(e).__name__}).") from e


def _document(where: str, row: Any, more: Mapping[str, Any]) -> Document:
    if not isinstance(row, dict):
        raise DocumentInvalid(f"{where} is no object.")
    rest = dict(row)
    content = _first(rest, _CONTENT)
    embedding = _first(rest, _EMBEDDING)
    id_, source, metadata = rest.pop("id", None), rest.pop("source", None), rest.pop("metadata", None)
    if not isinstance(content, str):
        raise DocumentInvalid(f"{where} has no text: none of {', '.join(_CONTENT)}.")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError as e:
            raise DocumentInvalid(f"{where}: its metadata are no JSON.") from e
    if metadata is not None and not isinstance(metadata, dict):
        raise DocumentInvalid(f"{where}: its metadata are no object.")
    own = {key: value for key, value in {**rest, **(metadata or {})}.items() if value is not None}
    if source is not None:
        own.setdefault("source", str(source))
    named = None if source is None else str(source)
    bare = Document(content, {**own, **more}, id="", embedding=embedding, source=named)
    return Document(
        content, bare.metadata, content_id(bare) if id_ is None else str(id_), embedding=embedding, source=named
    )


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Take the first of these that has a value; the others stay."""
    return next((row.pop(name) for name in names if row.get(name) is not None), None)
