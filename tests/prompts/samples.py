"""Prompts and values that several tests are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.support.prompts import HELLO, toml

if TYPE_CHECKING:
    from superstep.prompts import Draft


class Row:
    """Like a row of the database driver: keys and items, but iterating gives values, and it is no Mapping."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def keys(self) -> Any:
        return iter(self._columns)

    def __iter__(self) -> Any:
        return iter(self._columns.values())

    def __getitem__(self, key: str) -> Any:
        return self._columns[key]


# What JSON can hold.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def shuffled(value: Any, random: Any) -> Any:
    """The same JSON data with the keys of its objects in another order."""
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key], random) for key in keys}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


def user(content: str, more: str = "") -> str:
    """A TOML file of one user message, after `more`."""
    return f"{more}\n[[messages]]\nrole = 'user'\ncontent = '''\n{content}'''"


def draft(text: str, name: str = "p", description: str = "", cases: str = "") -> Draft:
    """A draft of one user message that begins with the text."""
    return toml(f"description = '{description}'\n{HELLO.replace('Hello', text)}\n{cases}", name)
