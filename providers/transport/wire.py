"""What differs between providers above the wire: how tools and schemas are asked for, and how an answer ends.

Calls carry tools in OpenAI's JSON form and a wanted schema as one such tool. Each provider's own LangChain class
translates them, when the call is made, so one bound model works with whatever deployment answers.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableBinding
from langchain_core.utils.function_calling import convert_to_openai_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from superstep.providers.catalog.model import Deployment, StructuredOutput

__all__ = ["SCHEMA", "Wire", "cut_short", "ended", "refused", "said_end", "says_totals"]

SCHEMA = "wanted_schema"  # keyword argument of a call whose answer must fill a schema
_KEPT = 256  # translations kept per process; a program has about as many tool lists as it has nodes

_STRUCTURED: Mapping[str, StructuredOutput] = {
    "openai": "json_schema",
    "openai-compatible": "json_schema",
    "anthropic": "function_calling",
    "offline": "function_calling",
    "langchain": "function_calling",
}
# Providers whose streams always say why they ended: OpenAI's chat completions and Anthropic with a reason, OpenAI's
# responses with a status. One that ends without was cut, however politely.
_SAYS_WHY_IT_ENDED = frozenset({"openai", "openai-compatible", "anthropic", "offline"})
_END = ("finish_reason", "stop_reason")
_ENDED = frozenset({"completed", "incomplete"})
_TOO_LONG = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
_TOOL_OPTIONS = ("tool_choice", "strict", "parallel_tool_calls")
_REFUSALS = frozenset({"content_filter", "refusal"})


class Wire:
    """Translates the arguments of calls. Translations are kept: they are the same for each call of a node."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def arguments(self, deployment: Deployment, model: BaseChatModel, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the model's own `_agenerate` and `_astream`.

        Raises:
            NotImplementedError: the model's class cannot use tools.
        """
        rest = dict(given)
        rest.pop("ls_structured_output_format", None)
        wanted, tools = rest.pop(SCHEMA, None), rest.pop("tools", None)
        if not wanted and not tools:
            return rest
        options: dict[str, Any] = {key: rest.pop(key) for key in _TOOL_OPTIONS if key in rest}
        key = (deployment.name, json.dumps([wanted, tools, options], sort_keys=True, default=repr))
        bound = self._kept.get(key)
        if bound is None:
            bound = _schema(deployment, model, wanted, tools) if wanted else _tools(model, tools, options)
            self._kept[key] = bound
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return {**rest, **bound}


def _tools(model: BaseChatModel, tools: list[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: value for key, value in options.items() if value is not None}
    if "tool_choice" in named:
        named["tool_choice"] = _choice(named["tool_choice"])
        if named["tool_choice"] == "none":
            return {}  # not every provider has a word for it; no tool on offer means the same
    return _bound(model.bind_tools(tools, **named))


def _schema(
    deployment: Deployment, model: BaseChatModel, wanted: Mapping[str, Any], tools: list[Any] | None
) -> dict[str, Any]:
    method = wanted.get("method") or deployment.structured_output or _STRUCTURED[deployment.provider]
    function = wanted["tool"]["function"]
    if method == "function_calling":
        return _bound(model.bind_tools([*(tools or []), wanted["tool"]], tool_choice=function["name"]))
    schema = {"title": function["name"], "description": function.get("description", ""), **function["parameters"]}
    options = {"strict": wanted["strict"]} if wanted.get("strict") is not None else {}
    asked = _bound(model.with_structured_output(schema, method="json_schema", **options).first)  # type: ignore[attr-defined]
    if not tools:
        return asked
    # OpenAI's SDK, given a schema, refuses to send tools that are not strict.
    offered = [_strict(tool) for tool in tools] if deployment.provider.startswith("openai") else tools
    return {**_tools(model, offered, {}), **asked}


def _strict(tool: Any) -> Any:
    return convert_to_openai_tool(tool["function"], strict=True) if "function" in tool else tool


def _bound(runnable: Any) -> dict[str, Any]:
    if not isinstance(runnable, RunnableBinding):
        raise NotImplementedError("The model's class does not bind its tools as arguments of the call.")
    kwargs = dict(runnable.kwargs)
    kwargs.pop("ls_structured_output_format", None)
    return kwargs


def _choice(choice: Any) -> Any:
    """A tool choice in the words every LangChain class knows: "any", "auto", or a tool's name."""
    if isinstance(choice, dict):
        name = choice.get("function", choice).get("name")
        return name or _choice(choice.get("type"))
    return "any" if choice in (True, "required") else choice


def refused(message: BaseMessage, info: Mapping[str, Any] | None = None) -> bool:
    """Whether the model says that it, or a filter, refused the content."""
    blocks = message.content if isinstance(message.content, list) else []
    if any(isinstance(block, dict) and block.get("type") == "refusal" for block in blocks):
        return True
    if message.additional_kwargs.get("refusal"):
        return True
    return bool(_reasons({**message.response_metadata, **(info or {})}) & _REFUSALS)


def cut_short(metadata: Mapping[str, Any]) -> bool:
    """Whether an answer ends where a limit on its length cut it."""
    return bool(_reasons(metadata) & _TOO_LONG)


def ended(deployment: Deployment, metadata: Mapping[str, Any]) -> bool:
    """Whether a stream with this response metadata came to its end, as far as its provider tells."""
    return deployment.provider not in _SAYS_WHY_IT_ENDED or said_end(deployment, metadata)


def said_end(deployment: Deployment, metadata: Mapping[str, Any]) -> bool:
    """Whether a stream with this response metadata has said that it is over, and means it."""
    if deployment.provider not in _SAYS_WHY_IT_ENDED:
        return False
    return metadata.get("status") in _ENDED or any(metadata.get(key) for key in _END)


def says_totals(deployment: Deployment) -> bool:
    """Whether a stream's chunks, by the protocol, count all tokens until then, and not those since the one before."""
    return deployment.provider in _SAYS_WHY_IT_ENDED


def _reasons(metadata: Mapping[str, Any]) -> set[Any]:
    """Why an answer ended, in the provider's words."""
    details = metadata.get("incomplete_details")
    reasons = [*(metadata.get(key) for key in _END), details.get("reason") if isinstance(details, dict) else None]
    return {reason for reason in reasons if isinstance(reason, str)}
