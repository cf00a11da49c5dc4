"""What providers say of the tokens they counted, made sound: whole numbers that can be, or nothing.

Servers that imitate another's protocol send what they like: nothing, zeros, texts, lists, a running total with every
chunk of a stream. An answer is not lost for that, and a bill not multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.messages.ai import UsageMetadata

__all__ = ["StreamedUsage", "count", "sound"]

_MOST = 1 << 40  # tokens of one call: far more than any model takes, far less than what a column holds
_DETAILS = ("input_token_details", "output_token_details")


def count(value: Any) -> int | None:
    """A number of tokens; `None` of what cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None


def sound(usage: Any) -> UsageMetadata | None:
    """Usage in LangChain's form, whose numbers can be relied on; `None` if it says nothing that can."""
    if not isinstance(usage, Mapping):
        return None
    read, written = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if read is None and written is None:
        return None
    found: dict[str, Any] = {"input_tokens": read or 0, "output_tokens": written or 0}
    found["total_tokens"] = found["input_tokens"] + found["output_tokens"]
    for name in _DETAILS:
        details = usage.get(name)
        if isinstance(details, Mapping):
            found[name] = {key: value for key, value in details.items() if count(value) is not None}
    return cast("UsageMetadata", found)


class StreamedUsage:
    """The tokens of a stream, from what its chunks say.

    By LangChain's convention chunks say what came since the one before, and are added up. But OpenAI's and Anthropic's
    protocols know only totals, so a server of theirs that speaks with every chunk means all until then. So does
    whoever names the input again: it was read once.
    """

    def __init__(self, *, totals: bool) -> None:
        """`totals`: the protocol knows only totals."""
        self._totals = totals
        self.total: UsageMetadata | None = None

    def take(self, message: BaseMessage) -> None:
        """Take what a chunk says off it: whoever adds the chunks up shall have it once."""
        if isinstance(message, AIMessage) and message.usage_metadata is not None:
            self._add(message.usage_metadata)
            message.usage_metadata = None

    def _add(self, usage: Any) -> None:
        said, before = sound(usage), self.total
        if said is None:
            return
        if before is None:
            self.total = said
        elif self._totals or said["input_tokens"] >= before["input_tokens"] > 0:
            self.total = _later(before, said)
        else:
            self.total = add_usage(before, said)


def _later(before: UsageMetadata, said: UsageMetadata) -> UsageMetadata:
    """Of two totals each number as it grew: some servers close with zeros."""
    read = max(before["input_tokens"], said["input_tokens"])
    written = max(before["output_tokens"], said["output_tokens"])
    details = {name: said.get(name) or before.get(name) for name in _DETAILS}
    known = {name: value for name, value in details.items() if value}
    return cast(
        "UsageMetadata", {"input_tokens": read, "output_tokens": written, "total_tokens": read + written, **known}
    )
