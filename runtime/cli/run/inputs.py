"""The `--input` of a run and the `--value` of a resume: read, parsed, and held against the graph's state."""

from __future__ import annotations

import difflib
import json
import operator
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import InputInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langgraph.pregel import Pregel

__all__ = ["check", "fit_input", "input_fields", "read_json", "require_fields"]


def read_json(given: str, option: str) -> Any:
    """Parse a JSON argument.

    Args:
        given: JSON itself, `@FILE` for a file, or `-` for standard input.
        option: The option's name, for messages.

    Returns:
        The parsed value.

    Raises:
        InputInvalid: The file cannot be read, or the text is not JSON.
    """
    place = option
    if given == "-":
        given, place = _standard_input(), f"{option} (standard input)"
    elif given.startswith("@"):
        place = f"{option} ({given[1:]})"
        try:
            given = Path(given[1:]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InputInvalid(f"{place} cannot be read: {reason}.") from error
    try:
        return json.loads(given, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputInvalid(f"{place} is not JSON ({where}: {error.msg}).{_quoting(given, option)}") from error


def _standard_input() -> str:
    """Read standard input, as UTF-8 whatever the terminal's encoding is: JSON is."""
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:
        return sys.stdin.read() if sys.stdin else ""
    try:
        return str(raw.read(), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputInvalid("The standard input is not UTF-8 text.") from error


def _not_json(name: str) -> None:
    """Refuse `NaN` and `Infinity`, which Python's parser takes although they are not JSON."""
    raise json.JSONDecodeError(f"{name} is not a JSON value", name, 0)


def _quoting(given: str, option: str) -> str:
    text = given.strip()
    if text and len(text) < 80 and text[0] not in "{[\"'":
        return f" A plain text needs quotes inside the quotes: {option} '{json.dumps(text)}'"
    return f' Quote it for the shell: {option} \'{{"key": "value"}}\', or put it in a file: {option} @input.json'


def fit_input(value: Any, graph: Pregel[Any, Any, Any, Any], name: str) -> Any:
    """Hold a parsed input against the state of a graph, before anything is written.

    Unknown keys and wrong types are refused; missing keys are for `require_fields`, because a later turn of a thread
    may leave them out, except where the state is a pydantic model, which LangGraph would refuse too. Channels whose
    reducer takes more than the annotation says (messages, for one) are not checked.

    Args:
        value: The parsed JSON.
        graph: The compiled graph.
        name: The graph's name, for messages.

    Returns:
        The value to run with: JSON objects and texts are turned into the annotated types (models, enums, dates).

    Raises:
        InputInvalid: The value does not fit; the message names the field.
    """
    if value is None:
        raise InputInvalid(
            f"The input of {name} is null. Give its fields, or use `runtime resume` to continue a thread."
        )
    builder, fields = getattr(graph, "builder", None), input_fields(graph)
    if not fields:
        return value if builder else _typed(graph.InputType, value, f"The input of {name}", ())
    if builder is None:
        return _fit_fields(value, graph.channels, fields, name)
    model: Any = builder.input_schema
    if hasattr(model, "model_validate"):
        extra = getattr(model, "model_config", {}).get("extra")
        _known_fields(value, fields, name, open_ended=extra == "allow")
        check(lambda: model.model_validate(value), f"The input of {name}", ())
        return value  # LangGraph builds the model itself, from the fields
    return _fit_fields(value, builder.channels, fields, name)


def input_fields(graph: Pregel[Any, Any, Any, Any]) -> list[str]:
    """Return the names of the fields a graph takes; none if its input is one value, not an object."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        return [] if isinstance(graph.input_channels, str) else list(graph.input_channels)
    return [name for name in builder.schemas[builder.input_schema] if name != "__root__"]


def require_fields(value: Any, graph: Pregel[Any, Any, Any, Any], name: str) -> None:
    """Refuse an input for a new thread that lacks fields its graph cannot do without.

    Only a TypedDict that says of some fields that they are not required means it of the others: most states are
    written without a thought to it, and list what later nodes add.

    Args:
        value: As `fit_input` returns it. Anything but an object passes.
        graph: Compiled.
        name: The graph's name, for messages.

    Raises:
        InputInvalid: Fields are missing; the message names them.
    """
    from typing_extensions import is_typeddict

    from superstep.runtime.cli.run.schemas import required_keys

    builder = getattr(graph, "builder", None)
    if builder is None or not is_typeddict(builder.input_schema) or not isinstance(value, dict):
        return
    fields = input_fields(graph)
    required = required_keys(builder.input_schema)
    missing = [field for field in fields if field in required and field not in value]
    if missing and len(required) < len(fields):
        raise InputInvalid(f"The input of {name} lacks {', '.join(missing)}. Its fields are {', '.join(fields)}.")


def _fit_fields(value: Any, channels: Mapping[str, Any], fields: list[str], name: str) -> dict[str, Any]:
    _known_fields(value, fields, name)
    return {
        key: _typed(channels[key].UpdateType, item, f"The input of {name}", (key,))
        if _checkable(channels[key])
        else item
        for key, item in value.items()
    }


def _known_fields(value: Any, fields: Iterable[str], name: str, *, open_ended: bool = False) -> None:
    fields = list(fields)
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else json.dumps(value)
        raise InputInvalid(
            f"The input of {name} must be a JSON object with the fields {', '.join(fields)}; it is {kind}."
        )
    for key in value:
        if key not in fields and not open_ended:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Its fields are {', '.join(fields)}."
            raise InputInvalid(f"The input of {name} has an unknown field {key!r}. {hint}")


def _checkable(channel: Any) -> bool:
    """Tell whether the channel takes exactly what its annotation says."""
    reducer = getattr(channel, "operator", None)
    return hasattr(channel, "UpdateType") and reducer in (None, operator.add, operator.or_)


def _typed(annotation: Any, value: Any, what: str, path: tuple[str, ...]) -> Any:
    from superstep.runtime.cli.run.schemas import typed

    return check(lambda: typed(annotation, value), what, path)


def check(validate: Any, what: str, path: tuple[str, ...], schema: str = "state") -> Any:
    """Call a validation of pydantic's, and name the fields that do not fit.

    Raises:
        InputInvalid: Something does not fit.
    """
    from pydantic import ValidationError

    try:
        return validate()
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, (*path, *problem['loc']))) or 'the value'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InputInvalid(f"{what} does not fit its {schema}. " + "; ".join(problems) + ".") from error
