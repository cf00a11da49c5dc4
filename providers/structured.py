"""Reading a schema's value out of an answer, however the provider was asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langchain_core.utils.json import parse_json_markdown
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

__all__ = ["read_value"]


def read_value(message: AIMessage, name: str, schema: Any) -> Any:
    """The value of an answer: the arguments of the tool call `name`, or its text as JSON.

    Args:
        message: the answer.
        name: name of the schema, as it was asked for.
        schema: a pydantic class, whose instance is returned, or anything else, for a plain dict.

    Raises:
        OutputParserException: there is no value in the answer, or it does not fit the schema.
    """
    value = next((call["args"] for call in message.tool_calls if call["name"] == name), None)
    if value is None:
        try:
            value = parse_json_markdown(message.text)
        except ValueError as error:
            raise OutputParserException(f"The answer holds no value of {name}.", llm_output=message.text) from error
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise OutputParserException(
            f"The answer does not fit {name}: {error}", llm_output=message.text or str(value)
        ) from error
