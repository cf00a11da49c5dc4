"""Language and embedding models behind one small door.

Each concern has its files, so that a change of one does not touch the others:

- `config`, `config_file`, `routes`: what is configured, from `runtime.toml` or from the keys that are set;
- `policy`: decisions. Pure, and tested under a virtual clock;
- `router`, with `candidates`, `state` and `trail`: finds a deployment that answers;
- `clients`: keys, addresses and connections of the vendors' SDKs;
- `wire`, `structured`, `calling`: what differs between vendors. Messages, tools and streams are mapped by
  `langchain-openai` and `langchain-anthropic`;
- `service`, `routed`: a call from its request to its record, as a LangChain chat model;
- `offline`: a deterministic chat model, so that every flow runs on a machine without keys or network;
- `embeddings`: text to vectors.

The SDKs take seconds to import, so they are imported when a route first needs them, never by `import providers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from superstep.providers.chat.model import RoutedChatModel
from superstep.providers.chat.registry import configure, current_service
from superstep.providers.embeddings import Embedder, embedder
from superstep.providers.offline import OfflineChatModel, OfflineReply, OfflineRequest, OfflineRules, ToolCall
from superstep.providers.routing.candidates import find_route

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "chat_model",
    "configure",
    "current_service",
    "embedder",
    "Embedder",
    "OfflineChatModel",
    "OfflineReply",
    "OfflineRequest",
    "OfflineRules",
    "RoutedChatModel",
    "ToolCall",
]


class NamesRoute(Protocol):
    """Something that says which route it is meant for, and with which parameters: a prompt."""

    @property
    def route(self) -> str | None:
        """Name of the route; `None` for "default"."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Arguments of the calls, such as temperature and max_tokens."""
        ...


def chat_model(
    route: str | NamesRoute = "default", *, offline: OfflineRules | None = None, **parameters: Any
) -> RoutedChatModel:
    """Return the chat model of a route.

    Args:
        route: Name of the route, or a prompt that names one. Where no routes are configured, any name is valid: the
            keys that are set decide who answers, and without keys every route is served offline.
        offline: Rules that answer when the route is served offline. Ignored when a vendor serves it.
        **parameters: Arguments of every call: temperature, max_tokens, …

    Returns:
        A LangChain chat model. Making one is cheap, makes no network call, and may be done in every node.

    Raises:
        ConfigError: There is no such route, or the configuration is wrong.
    """
    name = route if isinstance(route, str) else route.route or "default"
    given = parameters if isinstance(route, str) else {**route.parameters, **parameters}
    service = current_service()
    find_route(service.catalog, name)
    return RoutedChatModel(route=name, parameters=given, rules=offline, service=service)
