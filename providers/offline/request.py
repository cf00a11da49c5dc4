"""What offline rules are asked, and what they may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["OfflineReply", "OfflineRequest", "OfflineRules", "ToolCall", "parse_request"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for: the tool's name and its arguments."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OfflineReply:
    """An answer in full: text, tool calls, or both.

    Attributes:
        text: what it says.
        tool_calls: what it asks for.
        seconds: how long it takes to come, for flows that want to be watched or tested with a model that thinks.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OfflineRequest:
    """One request to the model, in the form rules decide on.

    Attributes:
        route: the route that was asked.
        messages: the conversation.
        tools: the tools on offer, each `{"name", "description", "parameters"}`, parameters as a JSON schema.
        tool_choice: `None` (free to answer with text), `"any"` (some tool must be called), or the name of a tool.
        schema_name: name of the one tool or output schema that the answer must fill, or `None`.
        schema: the JSON schema of that answer, or `None`.
    """

    route: str
    messages: tuple[BaseMessage, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | None = None
    schema_name: str | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """Text of the last message."""
        return self.messages[-1].text if self.messages else ""


# A rule must be a pure function of its request: replies are cached and compared across processes. It answers with
# text, with the value of the schema asked for (a dict or a model), with a full reply, or with None to leave the request
# to the default.
OfflineRules: TypeAlias = Callable[[OfflineRequest], OfflineReply | str | dict[str, Any] | BaseModel | None]


def parse_request(route: str, messages: Sequence[BaseMessage], *, tools: Any, tool_choice: Any) -> OfflineRequest:
    """Read the bound arguments of a call, in the spellings LangChain uses, into an `OfflineRequest`."""
    functions = tuple(tool.get("function", tool) for tool in tools or ())
    choice = _choice(tool_choice)
    wanted: Mapping[str, Any] | None = None
    if choice == "any" and len(functions) == 1:
        wanted = functions[0]
    elif choice not in (None, "any"):
        wanted = next((function for function in functions if function["name"] == choice), None)
    return OfflineRequest(
        route=route,
        messages=tuple(messages),
        tools=functions,
        tool_choice=choice,
        schema_name=wanted["name"] if wanted else None,
        schema=wanted.get("parameters", {}) if wanted else None,
    )


def _choice(tool_choice: Any) -> str | None:
    if isinstance(tool_choice, Mapping):
        # {"type": "function", "function": {"name": …}} as OpenAI writes it, {"type": "tool", "name": …} as Anthropic
        # does.
        function = tool_choice.get("function", tool_choice)
        return function.get("name") or _choice(tool_choice.get("type"))
    if tool_choice in (None, False, "auto", "none"):
        return None
    if tool_choice in (True, "any", "required"):
        return "any"
    return str(tool_choice)
