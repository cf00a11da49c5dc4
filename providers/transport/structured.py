"""Reading a schema's value out of an answer, however the provider was asked for it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, ValidationError

from superstep.providers.transport.wire import cut_short, refused

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

__all__ = ["read_value"]

_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


def read_value(message: AIMessage, name: str, schema: Any) -> Any:
    """The value of an answer: the arguments of the tool call `name`, or its text as JSON.

    Args:
        message: the answer.
        name: name of the schema, as it was asked for.
        schema: a pydantic class, whose instance is returned, or anything else, for a plain dict.

    Raises:
        OutputParserException: the answer holds no value, was cut short or refused, or does not fit the schema.
    """
    if cut_short(message.response_metadata):
        # What is left of it may still look like a value: {"amount": 12 was to become 1200.
        raise OutputParserException(
            f"The answer was cut at its limit of tokens, so it holds no whole value of {name}. Raise max_tokens.",
            llm_output=message.text,
        )
    if refused(message):
        raise OutputParserException(f"The answer is a refusal, and no value of {name}.", llm_output=message.text)
    value = next((call["args"] for call in message.tool_calls if call["name"] == name), None)
    if value is None:
        fenced = _FENCE.fullmatch(message.text.strip())
        try:
            value = json.loads(fenced.group(1) if fenced else message.text)
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
