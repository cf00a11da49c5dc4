"""Documents: what a row of a collection is made of. Pure."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from superstep.checkpointer.collections.definition import Definition
    from superstep.checkpointer.collections.nearest import Embedding

__all__ = ["Document", "as_documents", "content_id", "metadata_text"]

_LONGEST = 1_000_000  # bytes of a content: what full-text search takes of a text
_CHECKS: dict[str, Any] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "list[str]": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be found.

    Attributes:
        content: the text.
        metadata: what has a form in JSON.
        id: what it is called in its collection. One of the same id is replaced.
        embedding: its vector; `None` has it embedded.
        source: what it is a part of, such as a file, and `position` its number there.
        position: as said.
    """

    content: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    embedding: Embedding | None = None
    source: str | None = None
    position: int | None = None


def as_documents(given: Iterable[Any]) -> list[Document]:
    """Documents of texts, of mappings with the names of a document's attributes, and of LangChain's documents.

    Raises:
        DocumentInvalid: one is none of these.
    """
    return [_document(each) for each in given]


def _document(given: Any) -> Document:
    if isinstance(given, Document):
        return given
    if isinstance(given, str):
        return Document(given)
    if isinstance(given, dict):
        named = {key: value for key, value in given.items() if value is not None}
        try:
            return Document(**named)
        except TypeError:
            raise DocumentInvalid(
                f"A document has content, metadata, id, embedding, source and position; this has {sorted(given)}."
            ) from None
    if isinstance(content := getattr(given, "page_content", None), str):
        named = {} if given.id is None else {"id": given.id}
        return Document(content, given.metadata, **named)
    raise DocumentInvalid(f"{type(given).__name__} is no document: give a text, a mapping or a Document.")


def content_id(document: Document, nth: int = 0) -> str:
    """An id that says what a document says: equal for the same content and metadata of the same source.

    `nth` tells those apart that a source has several times.
    """
    said = [document.source, document.content, dict(document.metadata), nth]
    text = json.dumps(said, ensure_ascii=False, sort_keys=True, default=str)
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def metadata_text(definition: Definition, document: Document) -> str:
    """Its metadata as JSON, when all of it was checked.

    Raises:
        DocumentInvalid: it does not fit the collection, or PostgreSQL cannot hold it.
    """
    what = f"Document {document.id!r} for collection {definition.name!r}"
    if not isinstance(document.content, str) or not isinstance(document.id, str) or not document.id:
        raise DocumentInvalid(f"{what}: id and content are texts, and the id is not empty.")
    if "\0" in document.content or "\0" in document.id:
        raise DocumentInvalid(f"{what}: PostgreSQL's texts have no character of number 0. Take it out.")
    if len(document.content.encode(errors="surrogatepass")) > _LONGEST:
        raise DocumentInvalid(f"{what}: its content has more than {_LONGEST:,} bytes. Cut it into pieces.")
    if definition.metadata_schema is not None:
        _check(definition.metadata_schema, document.metadata, what)
    try:
        text = json.dumps(dict(document.metadata), allow_nan=False, ensure_ascii=False)
        text.encode()
        document.content.encode()
        document.id.encode()
    except (TypeError, ValueError) as e:
        raise DocumentInvalid(f"{what}: its content or metadata have no form in UTF-8 or JSON ({e}).") from e
    if "\\u0000" in text.replace("\\\\", ""):
        raise DocumentInvalid(f"{what}: its metadata have a character of number 0, which PostgreSQL cannot hold.")
    return text


def _check(keys: Mapping[str, str], metadata: Mapping[str, Any], what: str) -> None:
    wrong = [f"{key} is not one of its keys" for key in metadata if key not in keys]
    for key, kind in keys.items():
        value = metadata.get(key)
        if value is None:
            wrong += [] if kind.endswith("?") else [f"{key} is missing"]
        elif not _CHECKS[kind.removesuffix("?")](value):
            wrong.append(f"{key} is {type(value).__name__}, not {kind}")
    if wrong:
        raise DocumentInvalid(f"{what}: metadata do not fit: {'; '.join(wrong)}.")
