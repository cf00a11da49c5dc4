"""What a collection is: its name, its vectors, the keys of its metadata. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from superstep.runtime.faults import CollectionMismatch, ConfigError
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Definition", "MOST_DIMENSIONS", "Precision", "checked"]

Precision: TypeAlias = Literal["full", "half"]
"""Four or two bytes a number: `vector` or `halfvec`."""

MOST_DIMENSIONS = 16_000
"""What pgvector stores. An index takes 2,000 of full precision, 4,000 of half."""

KEY_TYPES = ("str", "int", "float", "bool", "list[str]")
"""Of metadata, each with a question mark behind it where a key may be missing or null."""

_NAME = re.compile(r"\w[\w-]{0,62}")
_LANGUAGE = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")
_TYPES = {"full": "vector", "half": "halfvec"}
_INDEXED = {"full": 2_000, "half": 4_000}


@dataclass(frozen=True, slots=True)
class Definition:
    """One collection.

    Attributes:
        name: what it is called; no `schema.table`, for there is no dot in it.
        dimensions: of its vectors.
        precision: of their numbers.
        language: PostgreSQL's configuration of full-text search for its texts.
        metadata_schema: types of the keys that metadata may have; `None` if any may.
        id: a number, never given again. 0 of one that is not in the database yet.
    """

    name: str
    dimensions: int
    precision: Precision = "full"
    language: str = "simple"
    metadata_schema: Mapping[str, str] | None = None
    id: int = 0

    @property
    def type_name(self) -> str:
        """The type of its vectors in SQL."""
        return _TYPES[self.precision]

    @property
    def most_indexed(self) -> int:
        """How many dimensions an index takes."""
        return _INDEXED[self.precision]

    @property
    def bare_table(self) -> str:
        """Its table's name."""
        return f"collection_{self.id}"

    def table(self, schema: str) -> str:
        """Its table, quoted, in the saver's schema (unquoted)."""
        return f"{quote_identifier(schema)}.{quote_identifier(self.bare_table)}"

    def refuse_other(self, wanted: Definition) -> None:
        """Raise `CollectionMismatch` unless it is what was wanted."""
        differ = [
            f"{what} {getattr(self, what)!r}, not {getattr(wanted, what)!r}"
            for what in ("dimensions", "precision", "language", "metadata_schema")
            if getattr(self, what) != getattr(wanted, what)
        ]
        if differ:
            raise CollectionMismatch(
                f"Collection {self.name!r} is there and has {'; '.join(differ)}. Use another name, or drop it first."
            )


def checked(definition: Definition) -> Definition:
    """The definition, if it is one.

    Raises:
        ConfigError: a part of it is not possible.
    """
    if not _NAME.fullmatch(definition.name):
        raise ConfigError(
            f"{definition.name!r} is no name for a collection: up to 63 letters, digits, hyphens and underscores."
        )
    if not 1 <= definition.dimensions <= MOST_DIMENSIONS:
        raise ConfigError(
            f"Collection {definition.name!r}: vectors have 1 to {MOST_DIMENSIONS} dimensions, not "
            f"{definition.dimensions}."
        )
    if definition.precision not in _TYPES:
        raise ConfigError(f'Collection {definition.name!r}: precision is "full" or "half".')
    if not _LANGUAGE.fullmatch(definition.language):
        raise ConfigError(
            f"Collection {definition.name!r}: {definition.language!r} is no configuration of full-text search. "
            f'Give "simple", "english", or another one that the database has.'
        )
    for key, kind in (definition.metadata_schema or {}).items():
        if kind.removesuffix("?") not in KEY_TYPES:
            raise ConfigError(
                f"Collection {definition.name!r}: metadata {key!r} has type {kind!r}. Types are "
                f"{', '.join(KEY_TYPES)}, with a question mark behind it if the key may be missing."
            )
    return definition
