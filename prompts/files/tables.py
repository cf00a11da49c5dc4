"""Tables of a file, checked as their keys are taken."""

from __future__ import annotations

from typing import Any

from superstep.prompts.model.values import json_data
from superstep.prompts.model.variables import did_you_mean
from superstep.runtime.faults import PromptInvalid

__all__ = ["Table"]


class Table:
    """One table. Whatever is wrong with it is a `PromptInvalid` that names the file and the path in it.

    Args:
        file: how to call the file.
        where: path of the table in the file; empty for the whole file.
        given: what stands there.
        keys: the keys it may have; any if there are none.
    """

    def __init__(self, file: str, where: str, given: Any, keys: tuple[str, ...] = ()) -> None:
        self.file = file
        self.where = where
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise self.wrong(f"must be a table, such as {{ {keys[0] if keys else 'key'} = … }}")
        self.given = given
        unknown = [key for key in given if keys and key not in keys]
        if unknown:
            hint = did_you_mean(unknown[0], keys) or f"; keys are {', '.join(keys)}"
            raise self.wrong(f"has an unknown key {unknown[0]!r}{hint}")

    def wrong(self, what: str, key: str = "") -> PromptInvalid:
        """The error about the table, or one of its keys."""
        path = ".".join(part for part in (self.where, key) if part)
        return PromptInvalid(f"{self.file}{f', {path}' if path else ''}: {what}.")

    def has(self, key: str) -> bool:
        """Whether the key is given."""
        return key in self.given

    def text(self, key: str, default: str = "") -> str:
        """The text of the key, without white space around it; `default` if the key is not given."""
        value = self.given.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(f"must be a text, not {type(value).__name__}", key)
        return value.strip()

    def json(self, key: str, default: Any) -> Any:
        """Anything that JSON can hold; a table where the default is one."""
        value = self.given.get(key, default)
        if isinstance(default, dict) and not isinstance(value, dict):
            raise self.wrong(f"must be a table, not {type(value).__name__}", key)
        try:
            return json_data(value)
        except TypeError as error:
            raise self.wrong(str(error), key) from error
        except ValueError as error:
            raise self.wrong("has a number that is not finite", key) from error

    def table(self, key: str) -> dict[str, Any]:
        """A table within the table, with keys of any name."""
        path = f"{self.where}.{key}".lstrip(".")
        return Table(self.file, path, self.given.get(key, {})).given

    def tables(self, key: str, keys: tuple[str, ...]) -> list[Table]:
        """The tables of the key, none if it is not given. Any key but `keys` in one of them is an error."""
        value = self.given.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(f"must be a list of tables, written [[{key}]]", key)
        return [Table(self.file, f"{key}[{at}]", each, keys) for at, each in enumerate(value, start=1)]
