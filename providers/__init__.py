"""Language and embedding models behind one small door.

The rooms, each of which imports only those below it:

- `chat`: a call from its request to its record, as a LangChain chat model. `embeddings`: text to vectors;
- `routing`: finds a deployment that answers;
- `transport`: one request to one deployment. Messages, tools and streams are mapped by `langchain-openai` and
  `langchain-anthropic`; what they leave open is here;
- `offline`: a deterministic chat model, so that every flow runs on a machine without keys or network.
  `records`: what is kept of a call, and the ports through which it leaves;
- `policy`: decisions. Pure, and tested under a virtual clock;
- `catalog`: what is configured, from `runtime.toml` or from the keys that are set. `clock`: the time of routing.

The way of a chat message through them:

1. `chat.model`: LangChain's interface; makes the request of messages, tools and parameters.
2. `chat.service`: sees the call through, from its beginning to its record.
3. `routing.budgets`: reserves what the call may spend.
4. `routing.router`: asks one candidate after another, or two at once, until one answers.
5. `routing.candidates`: the deployments that may be asked, in the order of the route's strategy.
6. `routing.deployment_state`: admits the call, or says what it has to wait for.
7. `transport.invoke`: asks one deployment under its time limits.
8. `transport.clients`: its LangChain model, with key and connections.
9. `transport.wire`: its arguments in the provider's dialect. Then the vendor's SDK sends them.
10. `chat.call`: makes the record of the answer, which travels with it.

The SDKs take seconds to import, so they are imported when a route first needs them, never by importing this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from superstep.providers.chat.model import RoutedChatModel
from superstep.providers.chat.registry import configure, current_service
from superstep.providers.embeddings import Embedder, embedder
from superstep.providers.offline import OfflineChatModel, OfflineReply, OfflineRequest, OfflineRules, ToolCall
from superstep.providers.records.call_record import record_of
from superstep.providers.routing.candidates import find_route

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "chat_model",
    "configure",
    "current_service",
    "embedder",
    "record_of",
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
