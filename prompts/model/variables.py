"""Types of variables, and the check that what is given fits them before anything is rendered."""

from __future__ import annotations

import datetime
import decimal
import difflib
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, convert_to_messages

from superstep.prompts.model.content import REQUIRED
from superstep.prompts.model.values import is_mapping, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from superstep.prompts.model.content import Variable

__all__ = ["TYPES", "bind", "check", "did_you_mean"]


def bind(variables: Mapping[str, Variable], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check what is given for variables, and complete it with defaults.

    Args:
        variables: What is declared.
        given: Values by name.

    Returns:
        Plain values for the templates, and all problems: missing, unexpected and wrongly typed ones. The problems never
        show a value. The values are complete only if there is no problem.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, variable in variables.items():
        value = given.get(name, variable.default)
        if value is REQUIRED:
            problems.append(f"{name} is missing ({variable.declared})")
            continue
        try:
            values[name] = check(variable, value)
        except TypeError as error:
            problems.append(f"{name} {error}")
    unexpected = [str(name) for name in given if name not in variables]
    problems += [f"{name} is not a variable of it{did_you_mean(name, list(variables))}" for name in unexpected]
    return values, problems


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint to the name that was probably meant, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check(variable: Variable, value: Any) -> Any:
    """Turn a value into what the templates get.

    Raises:
        TypeError: It does not fit the declared type. The message goes on from the variable's name.
    """
    if value is None and variable.nullable:
        return None
    return TYPES[variable.type](value)


def _wrong(wanted: str, value: Any) -> TypeError:
    return TypeError(f"must be {wanted}, not {type(value).__name__}")


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("str", value)
    return str(plain(value))


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("int", value)
    return int(value)


def _float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        raise _wrong("float (an int or a Decimal will do)", value)
    return plain(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong("bool", value)
    return value


def _date(value: Any) -> datetime.date:
    """A date, or its ISO text, which is what becomes of one in JSON."""
    if isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            raise TypeError("must be date, and the text given is not one in ISO form") from None
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise _wrong("date", value)
    return value


def _datetime(value: Any) -> datetime.datetime:
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value)
        except ValueError:
            raise TypeError("must be datetime, and the text given is not one in ISO form") from None
    if not isinstance(value, datetime.datetime):
        raise _wrong("datetime", value)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not is_mapping(value):
        hint = "; give its model_dump()" if hasattr(value, "model_dump") else ""
        raise TypeError(f"{_wrong('object (a mapping, or a row of the database)', value)}{hint}")
    return dict(plain(value))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _wrong("list", value)
    return [plain(item, f"[{at}]") for at, item in enumerate(value)]


def _list_of(inner: str, check_item: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def check_list(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise _wrong(f"list[{inner}]", value)
        checked = []
        for at, item in enumerate(value):
            try:
                checked.append(check_item(item))
            except TypeError as error:
                raise TypeError(f"is not list[{inner}]: item {at} {error}") from None
        return checked

    return check_list


def _messages(value: Any) -> list[BaseMessage]:
    """Messages of LangChain, or what it makes messages of: (role, content) pairs, {"role": …, "content": …}."""
    if not isinstance(value, list | tuple):
        raise _wrong("messages (a list)", value)
    try:
        return convert_to_messages(value)
    except Exception as error:  # many classes, and their texts quote the value
        raise TypeError("must be messages, and holds something that is none") from error


TYPES: Mapping[str, Callable[[Any], Any]] = {
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "date": _date,
    "datetime": _datetime,
    "object": _object,
    "list": _list,
    "list[str]": _list_of("str", _str),
    "list[int]": _list_of("int", _int),
    "list[object]": _list_of("object", _object),
    "messages": _messages,
    "any": plain,
}
