"""Language and embedding models behind one small door.

Each concern has its file, so that a change of one does not touch the others:

- `routes`: policy, which deployment serves a route;
- `clients`: keys, base addresses, retries and time limits of the vendors' SDKs;
- wire mapping (messages, tools, streaming) is left to `langchain-openai` and `langchain-anthropic`;
- `offline`: a deterministic chat model, so that every flow runs on a machine without keys or network;
- `embeddings`: text to vectors, computed on this machine.

The SDKs take seconds to import, so they are imported when a route first needs them, never by `import providers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.clients import build
from providers.embeddings import Embedder, embedder
from providers.offline import OfflineChatModel, OfflineReply, OfflineRequest, OfflineRules, ToolCall
from providers.routes import deployment_for

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = [
    "chat_model",
    "embedder",
    "Embedder",
    "OfflineChatModel",
    "OfflineReply",
    "OfflineRequest",
    "OfflineRules",
    "ToolCall",
]


def chat_model(route: str = "default", *, offline: OfflineRules | None = None) -> BaseChatModel:
    """Return the chat model that serves a route.

    Args:
        route: Name of the route. Any name is valid: without keys, every route is served offline.
        offline: Rules that answer when the route is served offline. Ignored when a vendor serves it.

    Returns:
        A LangChain chat model. Building one makes no network call and may be done in every node.

    Raises:
        ProviderUnavailable: A key is set for a vendor whose package is not installed.
    """
    return build(deployment_for(route), route=route, rules=offline)
