"""`chat_model`: what authors and prompts ask for a model by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from superstep.providers.chat.model import RoutedChatModel
from superstep.providers.chat.registry import current_service
from superstep.providers.routing.candidates import find_route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.providers.offline import OfflineRules

__all__ = ["chat_model"]


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
